"""`dresd eval traffic` against small servers: what is sent, what is counted, what is written, and what is refused."""

import importlib.util
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.fake_openai import SHARES, FakeOpenAI, serving
from tests.helpers import Outcome, dresd

Capture = pytest.CaptureFixture[str]
WARM_UPS = 1
KEY = "sk-never-to-be-seen"


@pytest.fixture
def servers() -> Iterator[list[FakeOpenAI]]:
    """One that drafts, one that does not and answers in other words, one without /metrics."""
    made = [FakeOpenAI(SHARES), FakeOpenAI(list(SHARES)[:1], suffix="!"), FakeOpenAI()]
    with ExitStack() as stack:
        yield [stack.enter_context(serving(fake)) for fake in made]


def traffic(capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI], prompts: list[str], *options: str) -> Outcome:
    """Run the command with servers a, b, c; results are in tmp_path/out."""
    suite = tmp_path / "prompts.jsonl"
    suite.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    named = [part for name, fake in zip("abc", servers, strict=False) for part in ("--server", f"{name}={fake.url}")]
    return dresd(capsys, "eval", "traffic", *named, "--suite", suite, "--out", tmp_path / "out", *options)


def results(tmp_path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The figures by server, and the records."""
    written = json.loads((tmp_path / "out" / "traffic.json").read_text())
    lines = (tmp_path / "out" / "records.jsonl").read_text().splitlines()
    return {run["server"]: run for run in written["servers"]}, list(map(json.loads, lines))


def test_servers_side_by_side(capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI]) -> None:
    prompts = [f"prompt {n} of six words here" for n in range(7)]
    outcome = traffic(capsys, tmp_path, servers, prompts, "--rounds", "3", "--max-new-tokens", "5")
    assert outcome.code == 0, outcome
    runs, records = results(tmp_path)
    assert list(runs) == ["a", "b", "c"] and len(records) == 21
    for run in runs.values():
        assert run["answered"] == run["asked"] == run["compared"] == 7 and run["tokens"] == 35 and not run["failures"]
        assert len(run["speedup_interval"]) == 2 and len(run["latency_ratio_interval"]) == 2
    assert [run["same_texts"] for run in runs.values()] == [7, 0, 7]
    a, b, c = runs.values()
    assert (a["drafted"], a["accepted"], a["acceptance"], a["tokens_per_step"]) == (35, 17.5, 0.5, 2.0)
    assert a["by_source"] == {"right": {"drafted": 17.5, "accepted": 17.5}, "wrong": {"drafted": 17.5, "accepted": 0}}
    assert (b["acceptance"], b["tokens_per_step"], b["by_source"]) == (None, 1.0, {})
    assert (c["acceptance"], c["tokens_per_step"], a["speedup"]) == (None, None, 1.0)
    order = list(dict.fromkeys((record["round"], record["server"]) for record in records))
    assert order == [(0, "a"), (0, "b"), (0, "c"), (1, "c"), (1, "b"), (1, "a"), (2, "a"), (2, "b"), (2, "c")]
    assert Counter(record["prompt_id"] for record in records) == {str(n): 3 for n in range(1, 8)}
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "traffic.json", "records.jsonl", "table.md", "traffic.png",
    }  # fmt: skip
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert table[0].startswith("| server | answered | tokens/s |") and table[2].endswith("| 2.00 | 50% | 7/7 |")
    assert [line.split()[0] for line in outcome.out.splitlines()[:4]] == ["server", "a", "b", "c"]


def test_what_is_sent(capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI]) -> None:
    for number, options in enumerate(([], ["--template", "Q: {prompt}\\nA:"], ["--template", "chat"])):
        fake, folder = servers[number], tmp_path / str(number)
        folder.mkdir()
        given = ["--temperature", "0.5", "--seed", "3", "--max-new-tokens", "9", *options]
        assert traffic(capsys, folder, [fake], ["first", "second"], *given).code == 0
        bodies = sorted(fake.seen[WARM_UPS:], key=lambda body: body["seed"])
        asked = [body.get("prompt") or body["messages"] for body in bodies]
        if number == 1:
            assert asked == ["Q: first\nA:", "Q: second\nA:"]
        else:
            assert asked == [[{"role": "user", "content": text}] for text in ("first", "second")]
        assert [(body["seed"], body["max_tokens"], body["temperature"]) for body in bodies] == [
            (3, 9, 0.5),
            (4, 9, 0.5),
        ]
        assert bodies[0]["model"] == "fake-model" and bodies[0]["stream_options"] == {"include_usage": True}
        assert results(folder)[0]["a"]["same_texts"] is None, "sampled texts are not compared"


FAILURES = {
    "HTTP 500": "HTTP 500", "HTTP 429": "HTTP 429", "CUT": "cut short", "BREAK": "no connection", "HANG": "timeout",
    "ERROR": "error in the stream", "GARBAGE": "malformed (JSONDecodeError)", "UNCOUNTED": "no usage",
}  # fmt: skip


def test_failures_are_counted_by_kind(
    capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They end nothing, and what a server says of them is shown without the key."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    prompts = [*FAILURES, "all is well", "EMPTY", "HTTP 500 once more"]
    outcome = traffic(capsys, tmp_path, servers[:1], prompts, "--rounds", "1", "--timeout", "2")
    assert outcome.code == 0, outcome
    run = results(tmp_path)[0]["a"]
    assert run["failures"] == Counter(FAILURES.values()) + Counter(["HTTP 500"])
    assert (run["asked"], run["answered"], run["tokens"]) == (11, 2, 3)
    assert "warning: a: requests failed: 2 HTTP 500, 1 " in outcome.out and "no, Bearer ***" in outcome.out
    assert run["first_failures"]["error in the stream"] == "the engine is dead"
    written = b"".join(file.read_bytes() for file in (tmp_path / "out").iterdir())
    assert KEY not in outcome.out + outcome.err and KEY.encode() not in written


RAW = [
    "null", "[]", "1", '"text"', "{}", '{"choices": null}', '{"choices": [null]}', '{"choices": [{}]}',
    '{"choices": [{"delta": null}]}', '{"choices": [{"delta": {"content": ["a"]}, "finish_reason": "stop"}]}',
    '{"choices": [], "usage": {"completion_tokens": "three"}}', '{"choices": [], "usage": 3}', "[DONE]", "\x00",
    '{"error": null}', '{"error": "dead"}', '{"error": {"message": ["\\ud800"]}}', "[" * 5000,
]  # fmt: skip
WHOLE = [
    '{"choices": [{"finish_reason": "stop", "delta": {"content": "a \\ud800"}}], "usage": {"completion_tokens": 2}}'
]


def test_whatever_a_server_says_is_an_answer_or_a_failure(
    capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI]
) -> None:
    """Of events that are none only those behind a whole answer, or empty ones before it, leave it an answer."""
    prompts = ["\n".join(["RAW", *lines]) for event in RAW for lines in ([event], [event, *WHOLE], [*WHOLE, event])]
    prompts.append("\n".join(["RAW", *WHOLE]))
    assert traffic(capsys, tmp_path, servers[:1], prompts, "--rounds", "1").code == 0
    records = {record["prompt"]: record for record in results(tmp_path)[1]}
    assert len(records) == len(prompts) and not any(records[n]["failure"] == "" for n in range(0, 3 * len(RAW), 3))
    assert (records[3 * len(RAW)]["tokens"], records[3 * len(RAW)]["text"]) == (2, "a ?")


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI]
) -> None:
    (tmp_path / "file").write_text("")
    error = traffic(capsys, tmp_path, servers[:1], ["prompt"], "--out", str(tmp_path / "file" / "out")).error
    assert "cannot use" in error and servers[0].seen == []


def test_a_request_waits_for_a_slot_and_its_latency_counts_from_its_arrival(
    capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI]
) -> None:
    prompts = [f"prompt {n}" for n in range(6)]
    assert traffic(capsys, tmp_path, servers[:1], prompts, "--rounds", "1", "--concurrency", "1").code == 0
    runs, records = results(tmp_path)
    assert servers[0].most == 1
    assert [record["prompt"] for record in records] == list(range(6)), "first come, first served"
    for before, after in pairwise(records):
        assert after["sent"] >= before["ended"] and after["arrived"] == 0
    latencies = sorted(record["ended"] for record in records)
    assert runs["a"]["latency_p50"] == pytest.approx((latencies[2] + latencies[3]) / 2)


def test_requests_are_in_flight_together_up_to_the_limit(
    capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI]
) -> None:
    fake, together = servers[0], 3
    fake.on_request = lambda body: None if fake.most >= together or len(fake.seen) <= WARM_UPS else wait(fake, together)
    prompts = [f"prompt {n}" for n in range(8)]
    assert traffic(capsys, tmp_path, [fake], prompts, "--rounds", "1", "--concurrency", "3").code == 0
    assert fake.most == together


def wait(fake: FakeOpenAI, together: int) -> None:
    """Until so many requests are there."""
    for _ in range(500):
        if fake.most >= together or fake.over.wait(0.01):
            return


def test_requests_do_not_wait_for_answers_to_arrive(capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI]) -> None:
    """An open loop: at 200 a second all have arrived while the first is still unanswered."""
    fake = servers[0]
    fake.on_request = lambda body: None if len(fake.seen) <= WARM_UPS else wait(fake, 5)
    prompts = [f"prompt {n}" for n in range(5)]
    assert traffic(capsys, tmp_path, [fake], prompts, "--rounds", "1", "--rate", "200").code == 0
    records = results(tmp_path)[1]
    assert fake.most == 5
    arrived = [record["arrived"] for record in sorted(records, key=lambda record: record["prompt"])]
    assert arrived == sorted(arrived) and arrived[0] > 0
    assert all(record["sent"] >= record["arrived"] for record in records)


def test_a_server_that_stops_in_the_middle(capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI]) -> None:
    """The other's results are whole; what the gone one cannot answer are failures."""
    gone = servers[1]

    def vanish(body: dict[str, Any]) -> None:
        if len(gone.seen) > WARM_UPS + 1:
            raise ConnectionResetError

    gone.on_request = vanish
    prompts = [f"prompt {n}" for n in range(4)]
    outcome = traffic(capsys, tmp_path, [servers[0], gone], prompts, "--rounds", "2", "--concurrency", "1")
    assert outcome.code == 0
    runs = results(tmp_path)[0]
    assert runs["a"]["answered"] == 4 and runs["b"]["answered"] == 1 and runs["b"]["failures"] == {"no connection": 3}
    assert runs["b"]["speedup"] is None, "it has no token in its second round"


def test_ctrl_c_keeps_what_was_measured(capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI]) -> None:
    a, b = servers[:2]
    b.on_request = lambda body: os.kill(os.getpid(), signal.SIGINT) or b.over.wait(1) if len(b.seen) == 6 else None
    prompts = [f"prompt {n}" for n in range(6)]
    outcome = traffic(capsys, tmp_path, [a, b], prompts, "--rounds", "2", "--concurrency", "1")
    assert "it was interrupted; what was measured is in" in outcome.error
    runs, records = results(tmp_path)
    assert runs["a"]["answered"] == 3 and runs["b"]["answered"] == len(records) - 3 == 4
    assert runs["b"]["speedup"] > 0 and runs["b"]["speedup_interval"] is None, "the second round is not whole"


def test_ctrl_c_before_the_first_answer_leaves_nothing(
    capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI]
) -> None:
    servers[0].on_request = lambda body: os.kill(os.getpid(), signal.SIGINT) or servers[0].over.wait(1)
    outcome = traffic(capsys, tmp_path, servers[:1], ["prompt"])
    assert outcome.code == 130 and "Traceback" not in outcome.err and not (tmp_path / "out").exists()


def test_servers_that_cannot_be_used_are_named_before_any_work(
    capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, other = servers[:2]
    with serving(FakeOpenAI()) as gone:
        pass
    error = traffic(capsys, tmp_path, [good, gone], ["prompt"]).error
    assert f"the server b at {gone.url} does not answer (no connection); start it" in error
    odd = FakeOpenAI()
    odd.url = "http://127.0.0.18000"
    assert f"the server a at {odd.url} does not answer" in traffic(capsys, tmp_path, [odd], ["prompt"]).error
    other.models = []
    assert "the server b at" in (error := traffic(capsys, tmp_path, [good, other], ["prompt"]).error)
    assert "names no model under /v1/models" in error
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    other.key = "another"
    error = traffic(capsys, tmp_path, [good, other], ["prompt"]).error
    assert "refuses the key; set $OPENAI_API_KEY" in error and KEY not in error
    assert good.seen == other.seen == [] and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "server", ["http://127.0.0.1:1", "a=127.0.0.1:1", "a=ftp://h:1", "a=http://u:hidden@h:1", "a=http://h:1?k=hidden",
               "a=http://h:hidden", "=http://h:1", "a b=http://h:1", "a|=http://h:1", "a=http://", "a=http://[hidden",
               "a=http://h:99999", "a=http://h\n:1", "a=http://\u00fc}:1"],
)  # fmt: skip
def test_addresses_that_are_none_or_hold_secrets_are_refused(capsys: Capture, server: str) -> None:
    error = dresd(capsys, "eval", "traffic", "--server", server).error
    assert "a --server is NAME=http://HOST:PORT" in error and "hidden" not in error


def test_options_that_are_refused(capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI]) -> None:
    for options, problem in (
        (["--rate", "0"], "--rate is a number"), (["--rate", "nan"], "--rate is a number"),
        (["--temperature", "inf"], "are finite numbers"), (["--timeout", "inf"], "are finite numbers"),
        (["--server", "a=http://127.0.0.1:1"], "two servers have the same name"),
        (["--template", "no place"], "must hold {prompt}"),
    ):  # fmt: skip
        assert problem in traffic(capsys, tmp_path, servers[:1], ["prompt"], *options).error
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "out exists already; name another folder" in traffic(capsys, tmp_path, servers[:1], ["prompt"]).error
    assert servers[0].seen == [] and [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_without_the_client_one_line_says_so(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    error = dresd(capsys, "eval", "traffic", "--server", "a=http://127.0.0.1:1").error
    assert "needs the package openai; pip install 'dresd-milvus[traffic]'" in error


def test_a_v1_at_the_end_of_an_address_is_the_same_server(
    capsys: Capture, tmp_path: Path, servers: list[FakeOpenAI]
) -> None:
    servers[0].url += "/v1/"
    assert traffic(capsys, tmp_path, servers[:1], ["prompt"]).code == 0
    assert servers[0].asked_for["/v1/models"] == 1 and servers[0].asked_for["/metrics"] >= 2

"""Whole evaluations on a small store: what is written, and that texts are vanilla's."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dresd_milvus.models.loading import LoadedModel
from tests.helpers import dresd
from tests.samples import build, write_chat_model, write_corpus

SYSTEMS = ["vanilla", "prompt_lookup", "rest", "suffix", "small_lm", "dense", "hybrid", "hybrid-no-dense"]


@pytest.fixture(scope="module")
def store(sample: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("store")
    build(sample, write_corpus(folder / "corpus.jsonl", 60), folder / "a.db", also="rest")
    yield folder / "a.db"


SAMPLED = ["--temperature", "0.7", "--top-p", "0.95", "--seed", "3"]
SAMPLED += ["--top-k", "40", "--min-p", "0.01", "--repetition-penalty", "1.1"]


@pytest.mark.parametrize(("sampling", "search"), [([], "replica"), (SAMPLED, "server")], ids=["greedy", "sampled"])
def test_all_systems_write_vanillas_text(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], sampling: list[str], search: str
) -> None:
    command = ["eval", "run", "--uri", store, "--collection", "code", "--limit", "3", "--max-new-tokens", "24"]
    command += ["--systems", ",".join(SYSTEMS)]
    done = dresd(capsys, *command, "--dtype", "float32", "--search", search, "--out", tmp_path, *sampling)
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [run["system"] for run in summary["runs"]] == SYSTEMS and len(records) == 3 * len(SYSTEMS)
    for run in summary["runs"]:
        assert run["identical"] == run["prompts"] == 3 and run["first_divergences"] == []
    for record in records:
        assert record["new_tokens"] == len(record["tokens"]) == sum(record["accept_lengths"]) + len(record["nodes"])
        plain = next(r for r in records if r["prompt_id"] == record["prompt_id"] and r["system"] == "vanilla")
        assert record["text"] == plain["text"]
    assert (
        summary["store"]["search"] == {"replica": "replica", "server": "filter"}[search]
        and summary["provenance"]["model"]["dtype"] == "float32"
    )
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page and "prompt_lookup" in page and "src=" not in page
    assert "dense" in done.out and "speed-up" in done.out
    assert (tmp_path / "table.md").read_text().count("\n") == len(SYSTEMS) + 2


def test_dense_drafts_accept_something(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "same.jsonl"  # the corpus's own prompts: their continuations are in the store
    rows = [json.loads(line) for line in (store.parent / "corpus.jsonl").read_text().splitlines()[:4]]
    suite.write_text("\n".join(json.dumps({"instruction": row["instruction"]}) for row in rows))
    arguments = ["--uri", store, "--collection", "code", "--suite", suite, "--systems", "dense", "--out", tmp_path]
    assert dresd(capsys, "eval", "run", *arguments, "--max-new-tokens", "24", "--dtype", "float32").code == 0
    dense = json.loads((tmp_path / "summary.json").read_text())["runs"][1]
    assert dense["hit_rate"] > 0.3 and dense["mat"] > 1


def test_a_suffix_store_that_has_moved_is_named(
    sample: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody but those who match exactly misses it."""
    manifest = build(sample, write_corpus(tmp_path / "corpus.jsonl", 8), tmp_path / "a.db", also="rest")
    moved = Path(manifest.suffixes).rename(tmp_path / "elsewhere")
    shared = [
        "eval",
        "run",
        "--uri",
        tmp_path / "a.db",
        "--collection",
        "code",
        "--limit",
        "1",
        "--max-new-tokens",
        "4",
    ]
    assert dresd(capsys, *shared, "--systems", "dense", "--out", tmp_path / "1").code == 0
    wanting = [*shared, "--systems", "rest", "--out", tmp_path / "2"]
    assert "no suffix store in" in dresd(capsys, *wanting).error and not (tmp_path / "2").exists()
    assert dresd(capsys, *wanting, "--suffixes", moved).code == 0
    build(sample, tmp_path / "corpus.jsonl", tmp_path / "a.db", also="rest")  # the same command makes it again
    assert dresd(capsys, *wanting, "--replace").code == 0


def test_a_chat_model_is_asked_in_its_chat_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever template a suite has for others; what is asked for wins."""
    model = write_chat_model(tmp_path / "model")
    for name, arguments, expected in (
        ("chat", ["--model", model, "--suite", "adversarial"], "chat"),
        ("given", ["--model", model, "--suite", "adversarial", "--template", "{prompt}"], "{prompt}"),
        ("base", ["--suite", "adversarial"], "Question: {prompt}\nAnswer:\n"),
    ):
        command = ["eval", "run", *arguments, "--systems", "vanilla", "--limit", "1", "--max-new-tokens", "2"]
        assert dresd(capsys, *command, "--out", tmp_path / name).code == 0
        assert json.loads((tmp_path / name / "run.json").read_text())["template"] == expected


def test_generate_streams_the_same_text_for_every_system(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = set()
    for system in SYSTEMS:
        done = dresd(
            capsys, "generate", "Write a Python function `close`. Close the file.", "--uri", store, "--collection",
            "code", "--system", system, "--max-new-tokens", "30", "--dtype", "float32",
        )  # fmt: skip
        assert done.code == 0, done.err
        text, figures = done.out.strip().rsplit("\n", 1)
        assert figures.startswith(f"{system}: ") and "MAT" in figures and "hit rate" in figures
        texts.add(text.strip())
    assert len(texts) == 1 and texts.pop().startswith("def close")


def test_inspect_tells_what_is_there(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = dresd(capsys, "inspect", "--uri", store, "--collection", "code", "--json")
    content = json.loads(done.out)
    assert content["rows"] == content["manifest"]["rows"] > 100 and len(content["checksum"]) == 16
    assert "⟶" in content["sample"][0]["preview"]
    shown = dresd(capsys, "inspect", "--uri", store, "--collection", "code")
    assert content["checksum"] in shown.out and shown.code == 0


def test_an_interrupted_run_goes_on(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cut anywhere, the same command makes what is missing and keeps what is there; another command is refused."""
    command = ["eval", "run", "--uri", store, "--collection", "code", "--limit", "3", "--max-new-tokens", "8"]
    command += ["--systems", "dense,rest", "--dtype", "float32", "--repeats", "2", "--out", tmp_path]
    assert dresd(capsys, *command).code == 0
    path = tmp_path / "records.jsonl"
    lines = path.read_text().splitlines()
    assert len(lines) == 2 * 3 * 3
    odd = json.loads(lines[0]) | {"text": "a line\u2028separator"}  # is no end of a line here
    lines[0] = json.dumps(odd, ensure_ascii=False)
    path.write_text("\n".join([*lines[:7], lines[7][:40]]))  # two prompts, a text of the third, and half of another
    assert dresd(capsys, *command).code == 0
    after = path.read_text().split("\n")[:-1]
    assert after[:6] == lines[:6] and len(after) == len(lines)
    made = [json.loads(line) for line in after]
    before = [json.loads(line) for line in lines]
    assert [(r["system"], r["tokens"], r["repeat"]) for r in made] == [
        (r["system"], r["tokens"], r["repeat"]) for r in before
    ]
    assert [run["prompts"] for run in json.loads((tmp_path / "summary.json").read_text())["runs"]] == [3, 3, 3]
    refused = dresd(capsys, *command, "--nodes", "4")
    assert "results of another run: nodes was None and is 4" in refused.error
    assert path.read_text().split("\n")[:-1] == after
    assert dresd(capsys, *command, "--nodes", "4", "--replace").code == 0


def test_a_run_that_was_begun_under_an_older_name_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", "run", "--limit", "2", "--max-new-tokens", "4", "--dtype", "float32", "--nodes", "4"]
    command += ["--systems", "hybrid-no-dense", "--out", tmp_path]
    assert dresd(capsys, *command).code == 0
    for name in ("run.json", "records.jsonl"):
        path = tmp_path / name
        path.write_text(path.read_text().replace("hybrid-no-dense", "hybrid-dense"))
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    (tmp_path / "records.jsonl").write_text("\n".join(lines[:2]) + "\n")
    done = dresd(capsys, *command)
    assert done.code == 0, done.err
    runs = json.loads((tmp_path / "summary.json").read_text())["runs"]
    assert [(run["system"], run["prompts"]) for run in runs] == [("vanilla", 2), ("hybrid-no-dense", 2)]


def test_several_turns_are_answered_on_top_of_each_other(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "turns.jsonl"
    turns = ["Write a Python function `close`.", "Now write `open`."]
    suite.write_text(json.dumps({"question_id": 81, "category": "coding", "turns": turns}) + "\n")
    command = ["eval", "run", "--uri", store, "--collection", "code", "--suite", suite, "--systems", "rest"]
    assert dresd(capsys, *command, "--max-new-tokens", "12", "--dtype", "float32", "--out", tmp_path / "out").code == 0
    records = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    assert [(r["system"], r["turn"]) for r in records] == [("vanilla", 0), ("vanilla", 1), ("rest", 0), ("rest", 1)]
    assert records[1]["prompt_tokens"] > records[0]["prompt_tokens"] + 12
    line = json.loads((tmp_path / "out" / "spec-bench" / "rest.jsonl").read_text())
    assert line["question_id"] == 81 and line["category"] == "coding" and len(line["choices"][0]["turns"]) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--systems", "dense"], "'dense' needs a store"),
        (["--systems", "hybrid"], "'hybrid' needs a store"),
        (["--systems", "rest"], "needs a suffix store"),
        (["--systems", "fast"], "there is no system 'fast'"),
        (["--systems", "hybrid-no-rest"], "leaves out 'rest', which is no part of hybrid"),
        (["--systems", "hybrid-no"], "leaves out 'no', which is no part of hybrid"),
        (["--systems", "dense-no-suffix"], "there is no system 'dense-no-suffix'"),
        (["--systems", "hybrid-rest"], "leaves out 'rest', which is no part of hybrid"),
        (["--systems", "hybrid-dense-suffix-recycling"], "nothing is left"),
        (["--suite", "nothing"], "there is no suite 'nothing'"),
        (["--tp", "2"], "--tp 2 needs 2 ranks and there is 1"),
        (["--suite", "spec-bench"], "not on the hub"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments if "--systems" in arguments else ["--systems", "prompt_lookup", *arguments]
    assert says in dresd(capsys, "eval", "run", *given, "--out", tmp_path / "out").error
    assert not (tmp_path / "out").exists()

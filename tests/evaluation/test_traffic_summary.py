"""The figures of a replay, against values worked out by hand; and what is read of /metrics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.traffic.counters import Counters, Sample, between, growth, read_counters, total
from evaluation.traffic.measuring import Answer, Block
from evaluation.traffic.report import print_summary
from evaluation.traffic.summary import over_time, summarise

METRICS = """\
# HELP vllm:spec_decode_num_accepted_tokens_total Number of accepted tokens.
# TYPE vllm:spec_decode_num_accepted_tokens_total counter
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="a \\"b\\" {c} # 1"} 12.0
vllm:spec_decode_num_accepted_tokens_total{engine="1",model_name="a"} 3.0
vllm:spec_decode_num_accepted_tokens_created{engine="0",model_name="a"} 1.79e+09
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="0"} 9.0
vllm:generation_tokens_total 1.5e+02
dresd_accepted_tokens_total{corpus="x",source="dense"} 4.0 1700000000
dresd_accepted_tokens_total{source="dense",corpus="y"} 2.0
dresd_drafted_tokens_total{source="corpus",corpus="y"} 8.0
vllm:request_success_total{finished_reason="stop"} NaN

what is this {
"""


def test_counters_are_summed_over_all_labels_but_the_source() -> None:
    assert read_counters(METRICS) == {
        ("accepted", ""): 15.0, ("generated", ""): 150.0, ("accepted", "dense"): 6.0, ("drafted", "corpus"): 8.0,
    }  # fmt: skip
    assert read_counters("<html>no metrics</html>\n\x00") == {}


def counters(**values: float) -> Counters:
    """Counters of vLLM's own names."""
    return {(name, ""): value for name, value in values.items()}


def test_a_counter_that_began_again_counts_from_nothing() -> None:
    assert growth(counters(drafted=10), counters(drafted=4, accepted=3)) == counters(drafted=4, accepted=3)
    samples = [Sample(at, counters(drafted=value)) for at, value in ((0, 5), (2, 9), (4, 1), (6, 2))]
    assert [sample.counters["drafted", ""] for sample in between(samples)] == [4, 1, 1]
    assert total(between(samples)) == counters(drafted=6) and total(between(samples[:1])) == {}


@given(st.lists(st.integers(0, 100), min_size=1))
def test_growth_adds_up(steps: list[int]) -> None:
    values = [sum(steps[: n + 1]) for n in range(len(steps))]
    samples = [Sample(n, counters(drafted=value)) for n, value in enumerate(values)]
    assert total(between(samples)).get(("drafted", ""), 0) == values[-1] - values[0]


def block(server: str, turn: int, seconds: float, *answers: Answer, whole: bool = True) -> Block:
    """A block without samples."""
    return Block(server, turn, list(answers), [], [], seconds, whole)


def answer(prompt: int, arrived: float, first: float, ended: float, tokens: int, text: str = "a") -> Answer:
    """An answer that was sent half a second after it had arrived."""
    return Answer(prompt, arrived, arrived + 0.5, first, ended, tokens, text)


def failed(prompt: int, kind: str) -> Answer:
    return Answer(prompt, 0.0, 0.0, None, 9.0, failure=kind, message=f"{kind} of {prompt}")


BLOCKS = [
    block("a", 0, 4.0, answer(0, 0, 1, 3, 11), answer(1, 1, 2, 4, 5)),
    block("b", 0, 2.0, answer(0, 0, 0.5, 1, 11), answer(1, 1, 1.5, 2, 5, "b")),
    block("b", 1, 4.0, answer(2, 0, 1, 2, 8), failed(3, "HTTP 500"), failed(5, "timeout"), failed(7, "timeout")),
    block("a", 1, 8.0, answer(2, 0, 1, 5, 8), answer(3, 2, 3, 8, 8)),
    block("a", 2, 1.0, answer(4, 0, 0.5, 1, 1)),
    block("b", 2, 1.0, answer(4, 0, 0.5, 1, 1), whole=False),
]


def test_figures_worked_out_by_hand() -> None:
    a, b = summarise(BLOCKS, greedy=True)
    assert (a["server"], a["asked"], a["answered"], a["tokens"], a["seconds"]) == ("a", 5, 5, 33, 13.0)
    assert a["tokens_per_second"] == pytest.approx(33 / 13)
    assert (a["latency_p50"], a["latency_p95"]) == (3.0, pytest.approx(5.8)), "of 1, 3, 3, 5, 6"
    assert a["first_token_p50"] == 1.0 and a["token_p50"] == pytest.approx((0.5 + 4 / 7) / 2), "of 2/10, 2/4, 4/7, 5/7"
    assert (a["speedup"], a["latency_ratio"], a["same_texts"], a["compared"]) == (1.0, 1.0, 5, 5)
    assert a["speedup_interval"] == a["latency_ratio_interval"] == [1.0, 1.0]
    assert (b["asked"], b["answered"], b["tokens"], b["failures"]) == (7, 4, 25, {"timeout": 2, "HTTP 500": 1})
    assert b["first_failures"] == {"timeout": "timeout of 5", "HTTP 500": "HTTP 500 of 3"}
    # Rounds 0 and 1 are whole in both: 24 tokens in 6 s over 32 tokens in 12 s.
    assert b["speedup"] == pytest.approx((24 / 6) / (32 / 12))
    # Prompts 0, 1 and 2, which both have answered there: 1, 1 and 2 s over 3, 3 and 5 s.
    assert b["latency_ratio"] == pytest.approx(4 / 11)
    # Either round alone has the extreme ratio: 8 over 4 tokens a second, and 2 over 2.
    assert b["speedup_interval"] == [pytest.approx(1.0), pytest.approx(2.0)]
    assert b["latency_ratio_interval"] == [pytest.approx(1 / 3), pytest.approx(2 / 5)]
    assert (b["same_texts"], b["compared"]) == (3, 4)
    assert [run["same_texts"] for run in summarise(BLOCKS, greedy=False)] == [None, None]


def test_what_cannot_be_known_is_none() -> None:
    runs = summarise([block("a", 0, 2.0, answer(0, 0, 1, 2, 1)), block("b", 0, 2.0, failed(0, "timeout"))], True)
    for name in ("latency_p50", "latency_p95", "first_token_p50", "token_p50", "speedup", "latency_ratio"):
        assert runs[1][name] is None
    assert runs[0]["token_p50"] is None and runs[0]["tokens_per_step"] is None and runs[0]["acceptance"] is None
    assert (runs[0]["speedup"], runs[0]["speedup_interval"]) == (1.0, None), "one round has no interval"
    assert (runs[1]["tokens_per_second"], runs[1]["same_texts"], runs[1]["compared"]) == (0.0, 0, 0)
    assert summarise([], greedy=True) == []


def test_a_client_that_was_late_itself_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [block(name, 0, 2.0, answer(0, 0, 1, 2, 3)) for name in ("a", "b")]
    blocks[1].lags.extend([0.0, 0.5, 0.5])
    print_summary(summarise(blocks, True))
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:] == ["warning: b: this client itself was 0.50 s late; give it more processor time"]


def sampled(turn: int, seconds: float, *samples: tuple[float, Counters]) -> Block:
    return Block("a", turn, [], [Sample(*each) for each in samples], [0.01] * 20, seconds, True)


def test_steps_and_sources_of_the_servers_own_counters() -> None:
    """100 tokens, 60 of which were accepted drafts, took 40 steps; what was counted between blocks is not counted."""
    ours = {("drafted", "dense"): 10.0, ("accepted", "dense"): 5.0}
    first = sampled(
        0, 3.0, (0, counters(generated=7, drafted=3, accepted=1)), (2, counters(generated=37, drafted=53, accepted=21)),
        (3, counters(generated=57, drafted=73, accepted=31) | ours),
    )  # fmt: skip
    second = sampled(
        1, 2.0, (0, counters(generated=900, drafted=900, accepted=800) | ours),
        (2, counters(generated=950, drafted=930, accepted=830) | {key: 3 * value for key, value in ours.items()}),
    )  # fmt: skip
    (run,) = summarise([first, second], greedy=True)
    assert (run["drafted"], run["accepted"], run["acceptance"]) == (100, 60, 0.6)
    assert run["tokens_per_step"] == 100 / 40
    assert run["client_lag_p95"] == 0.01
    assert run["by_source"] == {"dense": {"drafted": 30, "accepted": 15}}
    points = over_time([first, second])
    assert [point["seconds"] for point in points] == [2, 3, 5]
    assert [point["acceptance"] for point in points] == [20 / 50, 10 / 20, 30 / 30]
    assert [point["by_source"].get("dense") for point in points] == [
        None, {"drafted": 10, "accepted": 5}, {"drafted": 20, "accepted": 10},
    ]  # fmt: skip

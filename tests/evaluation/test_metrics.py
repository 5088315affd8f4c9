"""Metrics on records whose figures can be worked out by hand."""

import pytest

from evaluation.reporting.metrics import summarise
from evaluation.running.lossless import first_difference


def record(accepted: list[int], nodes: list[int], depth: list[int], milliseconds: float, index: int = 0) -> dict:
    tokens = sum(accepted) + len(accepted)
    each = [1.0] * len(accepted)
    return {
        "index": index,
        "turn": 0,
        "repeat": 0,
        "new_tokens": tokens,
        "accept_lengths": accepted,
        "nodes": nodes,
        "depth": depth,
        "decoding_ms": milliseconds,
        "prefill_ms": 1.0,
        **{f"{name}_ms": each for name in ("draft", "verify", "choose", "total")},
    }


def test_every_step_counts_with_or_without_a_draft() -> None:
    ours = [record([3, 0, 0], [8, 8, 0], [4, 4, 0], 30.0), record([1], [4], [2], 10.0, 1)]
    vanilla = [record([0] * 6, [0] * 6, [0] * 6, 60.0), record([0, 0], [0, 0], [0, 0], 20.0, 1)]
    found = summarise(ours, vanilla)
    assert found["mat"] == pytest.approx(8 / 4)
    assert found["hit_rate"] == pytest.approx(3 / 4)
    assert found["path_acceptance"] == pytest.approx(4 / 10)
    assert found["node_acceptance"] == pytest.approx(4 / 20)
    assert found["accepted_by_depth"][:4] == pytest.approx([2 / 3, 1 / 3, 1 / 3, 0])
    assert found["tokens_per_second"] == pytest.approx(8 / 0.040)
    assert found["speedup"] == pytest.approx((8 / 40) / (8 / 80))
    low, high = found["speedup_interval"]
    assert low <= found["speedup"] <= high


def test_vanilla_has_a_mat_of_one_and_no_hits() -> None:
    vanilla = [record([0] * 6, [0] * 6, [0] * 6, 60.0)]
    found = summarise(vanilla, vanilla)
    assert (found["mat"], found["hit_rate"], found["speedup"], found["node_acceptance"]) == (1, 0, 1, 0)


@pytest.mark.parametrize(
    ("ours", "theirs", "at"), [([1, 2], [1, 2], None), ([1, 3], [1, 2], 1), ([1], [1, 2], 1), ([], [5], 0)]
)
def test_first_difference(ours: list[int], theirs: list[int], at: int | None) -> None:
    assert first_difference(ours, theirs) == at


def test_turns_of_a_prompt_are_one_and_pairs_are_of_the_same_turn() -> None:
    """Where vanilla's conversation filled the context a turn earlier, that turn has nothing to be compared with."""
    plain = [record([0] * 4, [0] * 4, [0] * 4, 40.0) | {"index": n, "turn": 0} for n in range(3)]
    ours = [record([1, 1], [4, 4], [2, 2], 10.0) | {"index": n, "turn": t} for n in range(3) for t in range(2)]
    found = summarise(ours, plain)
    assert found["speedup"] == pytest.approx(4) and found["speedup_interval"] == pytest.approx([4, 4])
    assert (found["prompts"], found["texts"]) == (3, 6)
    slow = [record([1, 1], [4, 4], [2, 2], 30.0) | {"index": n, "turn": 1} for n in range(3)]
    both = summarise([*ours[::2], *slow], [*plain, *({**r, "turn": 1} for r in plain)])
    # By question: 8 tokens in 10 + 30 ms of decoding and 2 of prefill.
    assert both["spec_bench"]["tokens_per_second"] == pytest.approx(8 / 0.042)

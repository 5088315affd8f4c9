"""How large a draft is, and when drafting pauses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.decoding.step_costs import LearnedCosts, StepCosts
from dresd_milvus.drafters.hybrid.budget import FIRM, PATIENCE, AdaptiveBudget

COSTS = StepCosts({0: 10.0, 4: 10.5, 8: 11.0, 16: 13.0, 64: 30.0})


def falling(*reach: float) -> np.ndarray:
    return np.sort(np.array(reach, np.float64))[::-1]


@given(reach=st.lists(st.floats(0.001, 1), max_size=80))
def test_the_size_gives_the_most_tokens_per_millisecond(reach: list[float]) -> None:
    """Against the rule in words, over all sizes of the table that the draft has nodes for."""
    found = AdaptiveBudget(COSTS).choose(falling(*reach))
    counts = {min(size, len(reach)) for size in COSTS.ms}
    rates = {count: (1 + falling(*reach)[:count].sum()) / COSTS.of(count) for count in counts}
    assert rates[found] == pytest.approx(max(rates.values()))


def test_a_dear_node_must_be_likelier() -> None:
    reach = np.full(64, 0.05)
    assert AdaptiveBudget(StepCosts({0: 20.0, 64: 20.0})).choose(reach) == 64, "nodes that cost nothing"
    assert AdaptiveBudget(StepCosts({0: 36.0, 8: 57.0, 16: 72.0})).choose(reach) == 0, "sixteen nodes double the step"
    assert AdaptiveBudget(StepCosts({0: 36.0, 8: 57.0, 16: 72.0})).choose(np.full(8, 0.5)) == 8


def test_no_evidence_is_no_draft() -> None:
    assert AdaptiveBudget(COSTS).choose(np.empty(0)) == 0


def after(accepted: int, drafts: int) -> AdaptiveBudget:
    """A budget that has seen drafts of eight nodes which promised one token each."""
    budget = AdaptiveBudget(COSTS)
    for _ in range(drafts):
        nodes = budget.choose(np.full(8, 0.125))
        budget.observe(nodes, accepted if nodes else 0, COSTS.of(nodes))
    return budget


def test_chances_are_corrected_by_what_came_of_what_was_promised() -> None:
    assert after(accepted=0, drafts=0).calibration == 1.0
    assert after(accepted=1, drafts=100).calibration == pytest.approx(1.0)
    assert after(accepted=0, drafts=10).calibration == pytest.approx(FIRM / (FIRM + 10), rel=0.15)
    assert after(accepted=2, drafts=100).calibration > 1.5


def test_mistrust_fades_while_nothing_is_drafted() -> None:
    budget = after(accepted=0, drafts=20)
    doubted = budget.calibration
    for _ in range(400):
        if budget.drafts():
            budget.choose(np.empty(0))
        budget.observe(0, 0, 10.0)
    assert budget.calibration > (1 + doubted) / 2


def shares(budget: AdaptiveBudget, reach: np.ndarray, accepted: int, steps: int) -> tuple[float, float]:
    """The shares of steps at which drafting was tried, and at which there was a draft."""
    tried = drafted = 0
    for _ in range(steps):
        nodes = 0
        if budget.drafts():
            tried += 1
            nodes = budget.choose(reach)
            drafted += nodes > 0
        budget.observe(nodes, accepted if nodes else 0, COSTS.of(nodes))
    return tried / steps, drafted / steps


def test_drafting_pauses_while_no_draft_is_worth_its_time() -> None:
    budget = AdaptiveBudget(StepCosts({0: 10.0, 8: 20.0}))
    assert shares(budget, np.full(8, 0.05), 0, PATIENCE) == (1.0, 0.0)
    tried, drafted = shares(budget, np.full(8, 0.05), 0, 10 * PATIENCE)
    assert tried == pytest.approx(1 / PATIENCE, rel=0.2) and drafted == 0
    budget.begin()
    assert budget.drafts(), "a new text is tried at once"


def test_one_draft_that_is_worth_its_time_ends_the_pauses() -> None:
    budget = AdaptiveBudget(StepCosts({0: 10.0, 8: 20.0}))
    shares(budget, np.full(8, 0.05), 0, 3 * PATIENCE)
    while not budget.drafts():
        budget.observe(0, 0, 10.0)
    assert budget.choose(np.full(8, 0.9)) == 8
    budget.observe(8, 7, 20.0)
    assert shares(budget, np.full(8, 0.9), 7, 20) == (1.0, 1.0)


def test_drafts_that_do_not_come_true_are_given_up() -> None:
    """What they promise would be worth their time; nothing of it comes."""
    budget = AdaptiveBudget(StepCosts({0: 10.0, 8: 15.0}))
    _, drafted = shares(budget, np.full(8, 0.1), 0, 400)
    assert 0 < drafted < 0.1


def test_a_size_that_takes_longer_than_expected_is_chosen_less() -> None:
    budget, reach, chosen = AdaptiveBudget(LearnedCosts("cuda")), np.full(64, 0.1), []
    for _ in range(60):
        chosen.append(budget.choose(reach))
        budget.observe(chosen[-1], chosen[-1] // 20, 10.0 + chosen[-1])
    assert chosen[:3] == [0, 0, 64], "steps without a draft come first: with their cost all others are compared"
    assert np.mean(np.array(chosen[-40:]) >= 16) < 0.2

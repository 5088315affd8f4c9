"""One budget over all requests of a step."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.decoding.step_costs import LearnedCosts
from dresd_milvus.serving.chain_budget import PRIOR, ChainBudget

FLAT = {1: 30.0, 512: 30.1}
STEEP = {1: 30.0, 512: 30.0 * 512}

Chains = list[np.ndarray]


@st.composite
def chains(draw: st.DrawFn) -> Chains:
    lists = st.lists(st.floats(0.001, 1), max_size=6).map(lambda reach: np.sort(np.array(reach))[::-1])
    return draw(st.lists(lists, min_size=1, max_size=8))


def budget(prior: dict[int, float]) -> ChainBudget:
    return ChainBudget(LearnedCosts(prior=prior))


@given(chains())
def test_where_tokens_cost_nothing_all_are_drafted(reaches: Chains) -> None:
    lengths = budget({1: 30.0, 512: 30.0}).choose(reaches)
    assert lengths == [len(reach) for reach in reaches]


@given(chains())
def test_where_a_token_costs_a_step_only_certain_ones_are_drafted(reaches: Chains) -> None:
    lengths = budget(STEEP).choose(reaches)
    for reach, length in zip(reaches, lengths, strict=True):
        assert all(reach[:length] >= 0.999)


@given(chains(), st.sampled_from([PRIOR["cpu"], PRIOR["cuda"], FLAT, STEEP]))
def test_no_other_lengths_give_more_tokens_per_millisecond(reaches: Chains, prior: dict[int, float]) -> None:
    """Of all ways to spend as many draft tokens, none promises more; of all totals, none has a higher rate."""
    chooser = budget(prior)
    lengths = chooser.choose(reaches)
    everything = np.sort(np.concatenate(reaches))[::-1]
    promised = sum(reach[:length].sum() for reach, length in zip(reaches, lengths, strict=True))
    assert np.isclose(promised, everything[: sum(lengths)].sum())
    rates = [
        (len(reaches) + everything[:total].sum()) / chooser.costs.of(len(reaches) + total)
        for total in range(len(everything) + 1)
    ]
    assert np.isclose(max(rates), (len(reaches) + promised) / chooser.costs.of(len(reaches) + sum(lengths)))


def test_drafts_that_do_not_come_true_become_shorter() -> None:
    chooser, reaches = budget(PRIOR["cpu"]), [np.array([0.9, 0.8, 0.7, 0.6])] * 4
    before = sum(chooser.choose(reaches))
    for _ in range(40):
        chooser.observe(10.0, 0)
    assert sum(chooser.choose(reaches)) < before


def test_no_request_is_no_draft() -> None:
    assert budget(PRIOR["cpu"]).choose([]) == []


def test_drafting_that_is_not_worth_its_own_time_pauses() -> None:
    """Eight steps in a row, then one step in eight; one worthwhile step ends it."""
    chooser, poor, good = budget(PRIOR["cpu"]), [np.array([0.01])] * 16, [np.array([1.0, 1.0, 1.0])] * 16
    chooser.observe_drafting(3.0)
    tried = list[int]()
    for step in range(40):
        if chooser.drafts():
            tried.append(step)
            chooser.choose(poor)
    assert tried == [0, 1, 2, 3, 4, 5, 6, 7, 15, 23, 31, 39]
    while not chooser.drafts():
        pass
    chooser.choose(good)
    assert all(chooser.drafts() for _ in range(3))

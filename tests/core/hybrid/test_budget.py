"""What is spent on drafts: sizes, sources, and whether to draft at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.costs import StepCosts
from dresd_milvus.drafters.hybrid.budget import CLEARLY, MOST_TRUSTED, USUAL, Thrift
from dresd_milvus.errors import InputError
from dresd_milvus.systems import MOST_NODES, NODES, budget_of, parse_nodes

COSTS = StepCosts({0: 10.0, 4: 10.5, 8: 11.0, 16: 13.0, 64: 30.0})


def drafted(thrift: Thrift, nodes: int, expected: float, accepted: int, own: float) -> None:
    """A draft that took so long and was verified in just the time that it was said to take."""
    thrift.drafted(nodes, expected, accepted, COSTS.of(nodes), COSTS.of(nodes) + own)


@given(reach=st.lists(st.floats(0.001, 1), max_size=80))
def test_no_size_is_clearly_better_than_the_one_taken(reach: list[float]) -> None:
    """In the time of any other, it would give as many tokens but for a few tenths."""
    thrift, falling = Thrift(COSTS), np.sort(reach)[::-1]
    took = {size: COSTS.of(min(size, len(reach))) for size in COSTS.ms}
    paces = {size: (1 + sum(falling[:size])) / took[size] for size in COSTS.ms}
    nodes, pace, promised = thrift.weigh(falling)
    assert pace == pytest.approx(paces[nodes]) and promised == pytest.approx(sum(falling[:nodes]))
    assert (max(paces.values()) - pace) * took[nodes] < CLEARLY + 1e-9


def test_hard_passages_are_drafted_for_their_own_worth() -> None:
    """That tokens come by the dozen elsewhere does not make those that are hard to come by cheaper to do without."""
    thrift, rich, poor = Thrift(COSTS), np.full(16, 1.0), np.full(16, 0.05)
    for _ in range(100):
        thrift.weigh(rich)
        thrift.drafted(16, 16.0, 16, 13.0, 13.1)
    assert thrift.weigh(poor)[0] > 0, "0.8 tokens for 3 ms, where a step without a draft takes 10 for one"


def test_the_usual_size_is_the_one_that_pays_best() -> None:
    poor, rich = Thrift(COSTS), Thrift(COSTS)
    for _ in range(200):
        poor.weigh(np.full(64, 0.02))
        rich.weigh(np.full(64, 0.9))
    assert poor.usual < USUAL < rich.usual


def drafting_share(accepted: int, steps: int = 300) -> float:
    """The share of steps that draft where every draft has so many tokens accepted and takes 0.5 ms and four nodes."""
    thrift, drafts = Thrift(COSTS), 0
    for _ in range(steps):
        if thrift.drafts():
            drafts += 1
            thrift.drafted(4, 0.5, accepted, 10.5, 11.0)
        else:
            thrift.paused(10.0, 10.0)
    return drafts / steps


def test_drafts_that_never_come_true_are_given_up_and_tried_again_now_and_then() -> None:
    assert 0 < drafting_share(accepted=0) < 0.1
    assert drafting_share(accepted=1) == 1.0


def test_a_text_after_one_that_was_given_up_is_tried_for_less() -> None:
    thrift, drafts = Thrift(COSTS), []
    for _ in range(3):
        thrift.begin()
        drafts.append(0)
        for _ in range(128):
            if thrift.drafts():
                drafts[-1] += 1
                drafted(thrift, 4, 0.5, 0, own=0.5)
    assert 0 < drafts[2] <= drafts[1] < drafts[0]


def test_one_draft_that_took_long_is_forgiven() -> None:
    """The first finds everything cold."""
    thrift = Thrift(COSTS)
    drafted(thrift, 4, 0.5, 1, own=3000.0)
    assert thrift.drafts()


def test_a_draft_that_comes_true_after_a_pause_ends_the_pauses() -> None:
    thrift = Thrift(COSTS)
    for _ in range(100):
        if thrift.drafts():
            drafted(thrift, 4, 0.5, 0, own=0.5)
    while not thrift.drafts():
        pass
    drafted(thrift, 4, 0.5, 3, own=0.5)
    for _ in range(20):
        assert thrift.drafts()
        drafted(thrift, 4, 0.5, 1, own=0.5)
    thrift.begin()
    assert thrift.drafts(), "a new text is another matter"


def trusted(thrift: Thrift) -> float:
    """By how much a draft's chances are multiplied that promises about as much as eight nodes of 0.1."""
    return (thrift.weigh(np.array([0.8]))[1] * COSTS.of(1) - 1) / 0.8


def test_promises_that_are_not_kept_are_trusted_less_and_for_a_time() -> None:
    thrift, reach = Thrift(COSTS), np.full(8, 0.1)
    assert thrift.weigh(reach)[1] > 0.1, "a plain step gives a tenth of a token a millisecond"
    for _ in range(200):
        thrift.weigh(reach)
        drafted(thrift, 8, 0.8, 0, own=0.1)
    assert trusted(thrift) == pytest.approx(1 / MOST_TRUSTED)
    for _ in range(200):
        drafted(thrift, 0, 0.0, 0, own=0.1)
    assert trusted(thrift) > 0.9, "what is not drafted is not held against it for ever"
    for _ in range(200):
        drafted(thrift, 8, 0.8, 2, own=0.1)
    assert trusted(thrift) > 2


def test_drafts_of_a_size_that_was_not_timed_are_found_to_cost_more() -> None:
    """Held to be free, they would be given up after a hundred."""
    thrift, drafts = Thrift(StepCosts({0: 10.0, 8: 10.0, 16: 11.0})), 0
    while thrift.drafts() and drafts < 100:
        drafts += 1
        thrift.drafted(5, 0.15, 0, waited=13.0, milliseconds=13.1)
        thrift.paused(waited=10.0, milliseconds=10.5)
    assert drafts < 25 and thrift.plain == pytest.approx(10, rel=0.1)


def test_a_short_draft_costs_what_it_has() -> None:
    pace = Thrift(COSTS).weigh(np.array([0.5]))[1]
    assert pace == pytest.approx(1.5 / 10.125)


def test_the_first_price_is_none() -> None:
    """It holds what is compiled at first use."""
    thrift = Thrift(COSTS)
    thrift.weighed("dense", 0, 0.05)
    thrift.paid("dense", 3000.0)
    for _ in range(5):
        thrift.paid("dense", 0.1)
    assert all(thrift.asks("dense", 0) for _ in range(20))
    thrift.paid("dense", 100.0)
    thrift.paid("dense", 0.1)
    assert thrift.asks("dense", 0), "one late answer is forgiven"


@pytest.mark.parametrize(("gain", "asked"), [(0.0, 0.1), (1.0, 1.0)])
def test_a_source_is_asked_where_it_pays(gain: float, asked: float) -> None:
    thrift, times = Thrift(COSTS), 0
    for _ in range(240):
        if thrift.asks("dense", 2):
            times += 1
            if thrift.weighs("dense", 2):
                thrift.weighed("dense", 2, gain)
            thrift.paid("dense", 1.0)
    assert times / 240 == pytest.approx(asked, abs=0.06)


def test_sizes_are_corrected_by_what_steps_take() -> None:
    thrift = Thrift(COSTS)
    for _ in range(300):
        thrift.drafted(16, 1.0, 1, 26.0, 27.0)
        thrift.paused(10.0, 11.0)
    for _ in range(100):
        thrift.weigh(np.full(16, 0.05))
    assert thrift.usual < 16


def test_a_budget_is_what_was_asked_for_or_what_is_usual() -> None:
    assert budget_of("rest", None, 8) == (NODES, 8) and budget_of("hybrid-no-dense", None, 8) == (MOST_NODES, 8)
    assert budget_of("hybrid", 5, 8) == (5, 8)
    assert parse_nodes("auto") is None and parse_nodes("12") == 12
    with pytest.raises(InputError, match="a number or 'auto'"):
        parse_nodes("-1")

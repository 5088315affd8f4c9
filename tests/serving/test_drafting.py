"""Chains for the requests of an engine, whose texts come from a script."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.decoding.step_costs import LearnedCosts
from dresd_milvus.drafters.hybrid import BatchHybrid
from dresd_milvus.drafters.hybrid.matches import Matches
from dresd_milvus.serving.chain_budget import ChainBudget
from dresd_milvus.serving.drafting import ChainDrafter
from dresd_milvus.serving.sessions import Request

FREE = {1: 30.0, 512: 30.0}
STATES = torch.zeros(8, 4)


def drafter(prior: dict[int, float] | None = None) -> ChainDrafter:
    """Drafts from the running texts alone."""
    return ChainDrafter(BatchHybrid([Matches(None)]), ChainBudget(LearnedCosts(prior=prior or FREE)))


def request(name: str, tokens: list[int], room: int = 6) -> Request:
    return Request(name, tokens, STATES, 0, room)


def test_a_text_that_repeats_itself_is_drafted() -> None:
    [draft, nothing] = drafter().propose([request("a", [5, 6, 7, 8, 5, 6, 7, 8, 5]), request("b", [1, 2, 3])])
    assert draft[:3] == [6, 7, 8] and nothing == []


@pytest.mark.parametrize("right", [True, False])
def test_what_came_of_a_draft_is_learned(right: bool) -> None:
    """A right draft raises the calibration of promises, a wrong one lowers it."""
    made, text = drafter(), [5, 6, 7, 8] * 3
    [draft] = made.propose([request("a", text)])
    made.propose([request("a", [*text, *(draft if right else []), 9])])
    assert draft and (made.budget.calibration > 1) == right


def test_no_request_no_draft() -> None:
    assert drafter().propose([]) == []


@pytest.mark.parametrize("kind", [list, np.array])
@given(data=st.data())
def test_whatever_a_text_does_drafts_stay_within_their_room(kind: type, data: st.DataObject) -> None:
    """Requests are reordered, miss steps, are cut back and come again under their old ids."""
    made, texts = drafter(), {name: [0] for name in "abc"}
    for _ in range(data.draw(st.integers(1, 10))):
        names = data.draw(st.permutations("abc"))[: data.draw(st.integers(0, 3))]
        for name in names:
            if data.draw(st.integers(0, 9)) == 0:
                texts[name] = texts[name][:1]
            texts[name] += data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=4))
        rooms = [data.draw(st.integers(1, 5)) for _ in names]
        drafts = made.propose([request(name, kind(texts[name]), room) for name, room in zip(names, rooms, strict=True)])
        assert len(drafts) == len(names)
        for name, draft, room in zip(names, drafts, rooms, strict=True):
            assert len(draft) <= room and set(draft) <= set(texts[name])


def test_warming_up_leaves_no_trace() -> None:
    """Neither in the counts, nor in what drafting is thought to cost: its first steps compile."""
    made = drafter()
    made.warm_up(STATES, [None, "one"])
    assert not made.counts and not len(made.sessions)
    assert made.propose([request("a", [5, 6, 7, 8, 5, 6, 7, 8, 5])]) != [[]]


def test_tokens_are_counted_by_event_source_and_corpus() -> None:
    made, text = drafter(), [5, 6, 7, 8] * 3
    [draft] = made.propose([request("a", text)._replace(corpus="one")])
    made.propose([request("a", [*text, *draft[:2], 99])._replace(corpus="one")])
    assert made.counts == {("drafted", "text", "one"): len(draft), ("accepted", "text", "one"): 2}

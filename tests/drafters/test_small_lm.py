"""A small model that drafts its own greedy continuation, whatever became of its drafts before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.protocols import Context
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.small_lm import SmallLM
from dresd_milvus.target.hf_target import HFTarget
from tests.conftest import build_tiny
from tests.target.test_hf_target import counting


@pytest.fixture(scope="module")
def small() -> HFTarget:
    return build_tiny(seed=1)


@pytest.fixture(scope="module")
def same() -> HFTarget:
    """The same model, with a cache of its own."""
    return build_tiny(seed=1)


def continued(model: HFTarget, text: list[int], count: int) -> list[int]:
    """The model's own greedy continuation."""
    return generate(model, Vanilla(), Greedy(), text, count, FixedBudget()).tokens


@settings(max_examples=25)
@given(st.lists(st.integers(0, 63), min_size=1, max_size=12), st.data())
def test_a_draft_is_what_the_small_model_would_write(small: HFTarget, same: HFTarget, prompt: list[int], data) -> None:
    """After any part of a draft was accepted, and another token came than the drafted one."""
    drafter, text = SmallLM(small), list(prompt)
    drafter.begin(prompt)
    for _ in range(3):
        depth = data.draw(st.integers(1, 6))
        tree = drafter.draft(Context(text, None, 8, depth))
        drafted = tree.tokens[1:].tolist()
        assert drafted == continued(same, text, depth)
        kept = data.draw(st.integers(0, depth))
        text += [*drafted[:kept], data.draw(st.integers(0, 63))]


def test_only_what_is_new_goes_through_the_model(small: HFTarget) -> None:
    drafter, text = SmallLM(small), [3, 1, 4, 1, 5]
    drafter.begin(text)
    drafted = drafter.draft(Context(text, None, 8, 4)).tokens[1:].tolist()
    text += [*drafted[:2], 60]
    with counting(small) as passed:
        drafter.draft(Context(text, None, 8, 4))
    assert passed == [1, 1, 1, 1], "the token that was not drafted, and three drafts"


def test_where_its_context_ends_it_drafts_nothing() -> None:
    small = build_tiny(seed=1, context=8)
    drafter = SmallLM(small)
    for length, drafts in ((5, 3), (7, 1), (8, 0), (20, 0)):
        text = np.arange(length).tolist()
        drafter.begin(text)
        assert len(drafter.draft(Context(text, None, 8, 8))) == drafts

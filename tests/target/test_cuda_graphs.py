"""Passes of fixed shapes have the results of passes of any shape. tests/gpu replays them on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.sampling import Greedy, GumbelSampler
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.target.cuda_graphs import MIN_CACHE_ROWS
from dresd_milvus.target.hf_target import HFTarget
from tests.conftest import build_tiny
from tests.drafters.wild_drafters import RandomTree
from tests.target.test_hf_target import random_tree

CONTEXT = 2 * MIN_CACHE_ROWS
texts = st.lists(st.integers(0, 63), min_size=2, max_size=10)


def stand_in(forward: Callable[[], Scored], device: torch.device) -> Callable[[], Scored]:
    """A capture without a GPU: a warm-up pass before, results always in the same tensors."""
    forward()
    held = forward()

    def replay() -> Scored:
        scored = forward()
        held.logits.copy_(scored.logits)
        held.hidden.copy_(scored.hidden)
        return Scored(held.logits, held.hidden)

    return replay


@pytest.fixture(scope="module", params=["as they are", "captured"])
def targets(request: pytest.FixtureRequest) -> Iterator[tuple[HFTarget, HFTarget]]:
    """The same model with passes of fixed shapes, and of any shape."""
    free = build_tiny(seed=0, context=CONTEXT)
    fixed = HFTarget(build_tiny(seed=0, context=CONTEXT).model, frozenset(), cuda_graphs=True)
    assert fixed.cuda_graphs is not None
    fixed.cuda_graphs.capture = request.param == "captured"
    with patch("dresd_milvus.target.cuda_graphs.capture_graph", stand_in):
        yield fixed, free


@given(text=texts, seed=st.integers(0, 2**16), size=st.integers(0, 70), data=st.data())
@settings(max_examples=40, deadline=None)
def test_nodes_are_scored_alike(
    targets: tuple[HFTarget, HFTarget], text: list[int], seed: int, size: int, data: st.DataObject
) -> None:
    """After a text, and after any path of a tree was committed; too large trees take the ordinary pass."""
    fixed, free = targets
    fixed.prefill(text[:-1])
    free.prefill(text[:-1])
    for turn in range(3):
        tree = random_tree(seed + turn, size, 5)
        ours, theirs = fixed.verify(tree), free.verify(tree)
        assert ours.logits.shape == theirs.logits.shape and ours.hidden.shape == theirs.hidden.shape
        assert torch.allclose(ours.logits, theirs.logits, rtol=0, atol=1e-10)
        assert torch.allclose(ours.hidden, theirs.hidden, rtol=0, atol=1e-10)
        path, _ = tree.walk(lambda node, depth: data.draw(st.integers(0, 3)))
        fixed.commit(path)
        free.commit(path)


@pytest.mark.parametrize("sampler", [Greedy(), GumbelSampler(1.0, 0.9, 3)])
def test_texts_are_alike_to_the_end_of_the_context(
    targets: tuple[HFTarget, HFTarget], sampler: Greedy | GumbelSampler
) -> None:
    fixed, free = targets
    right = generate(
        free, Vanilla(), sampler, [9], CONTEXT, FixedBudget()
    )  # a text of one token has no cache to begin with
    drafter = RandomTree([9, *right.tokens, *[0] * 12], 1, 64)
    assert generate(fixed, drafter, sampler, [9], CONTEXT, FixedBudget(20, 6)).tokens == right.tokens


def test_a_text_of_one_token_has_no_cache_to_begin_with() -> None:
    target = HFTarget(build_tiny(seed=0).model, frozenset(), cuda_graphs=True)
    right = generate(build_tiny(seed=0), Vanilla(), Greedy(), [9], 20, FixedBudget()).tokens
    assert generate(target, Vanilla(), Greedy(), [9], 20, FixedBudget()).tokens == right


def test_a_shape_is_captured_once() -> None:
    target = HFTarget(build_tiny(seed=0, context=CONTEXT).model, frozenset(), cuda_graphs=True)
    assert target.cuda_graphs is not None
    target.cuda_graphs.capture, sizes = True, []

    def counted(forward: Callable[[], Scored], device: torch.device) -> Callable[[], Scored]:
        sizes.append(len(forward().logits))
        return stand_in(forward, device)

    with patch("dresd_milvus.target.cuda_graphs.capture_graph", counted):
        done = generate(target, RandomTree([7] * 90, 1, 64), Greedy(), [7, 7], 60, FixedBudget(20, 6))
    assert 0 < len(sizes) == len(set(sizes)) < len(done.steps), "a text of 62 tokens needs one length of the cache"


def test_states_outlive_the_next_pass(targets: tuple[HFTarget, HFTarget]) -> None:
    fixed, _ = targets
    fixed.prefill([1, 2, 3])
    hidden = fixed.verify(DraftTree.root_only(4)).hidden
    before = hidden.clone()
    fixed.verify(DraftTree.root_only(5))
    assert torch.equal(hidden, before)

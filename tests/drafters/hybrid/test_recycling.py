"""What is remembered of the target's logits."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.drafters.hybrid import Hybrid
from dresd_milvus.drafters.hybrid.recycling import SUCCESSORS, Recycled, Recycling, most_likely

BUDGET = {"states": None, "max_nodes": 20, "max_depth": 4}


@given(seed=st.integers(0, 2**32 - 1), vocabulary=st.sampled_from([SUCCESSORS, 9, 300]))
def test_the_most_likely_successors_of_the_walked_nodes_are_kept(seed: int, vocabulary: int) -> None:
    random, recycling = np.random.default_rng(seed), Recycling()
    text, drafter = [0], Hybrid([], recycling)
    for drafted in (False, True):  # the first step has nothing to draft from, the second what the first has left
        tree = drafter.draft(Context(text, **BUDGET))
        assert (len(tree) > 0) == drafted
        logits = torch.from_numpy(random.normal(0, 3, (len(tree.tokens), vocabulary))).float()
        path = np.array([0, *np.flatnonzero((tree.parents == 0) & (tree.tokens > 0))[-1:]])
        new = np.append(tree.tokens[path[1:]], 0).astype(np.int64)
        text = [*text, *new.tolist()]
        drafter.observe(Step(text, new, tree, path, Scored(logits, logits)))
        top, recycled = logits.softmax(-1).topk(SUCCESSORS), recycling.recycled
        for node in path:
            assert recycled.successors[tree.tokens[node]].tolist() == top.indices[node].tolist()
            assert np.allclose(recycled.likely[tree.tokens[node]], top.values[node].numpy(), rtol=1e-5)
        assert (recycled.successors >= 0).all(1).sum() == len(path), "wrong branches are not the text's"
    assert len(path) == 2


def test_a_token_that_is_never_said_has_no_successors() -> None:
    """An input that is no output of the model; its neighbours in memory are left alone."""
    recycling, room = Recycling(), Recycled.nothing(20)
    recycling.recycled = Recycled(room.successors[:10], room.likely[:10])
    drafter, logits = Hybrid([], recycling), torch.arange(10.0)[None]
    tree = drafter.draft(Context([12], **BUDGET))
    drafter.observe(Step([12, 9], np.array([9]), tree, np.array([0]), Scored(logits, logits)))
    assert (room.successors == -1).all()


def test_a_step_may_be_of_another_tree_than_the_drafted() -> None:
    """Measuring without generating tells drafters of the text in chains of its tokens."""
    recycling, logits = Recycling(), (torch.arange(20) % 4 == torch.arange(4)[:, None]).float()
    chain = DraftTree(np.array([3, 5, 7, 9], np.int32), np.arange(-1, 3, dtype=np.int32))
    drafter = Hybrid([], recycling)
    drafter.draft(Context([3], **BUDGET))
    drafter.observe(Step([3, 5, 7, 9, 1], np.array([5, 7, 9, 1]), chain, np.arange(4), Scored(logits, logits)))
    assert np.flatnonzero((recycling.recycled.successors >= 0).all(1)).tolist() == [3, 5, 7, 9]
    for node, token in enumerate([3, 5, 7, 9]):
        assert (recycling.recycled.successors[token][:5] % 4 == node).all()


def test_a_target_without_logits_leaves_nothing() -> None:
    recycling, logits = Recycling(), torch.zeros(1, 0)
    recycling.remember(Scored(logits, logits), DraftTree.root_only(0).tokens, np.array([0]))
    assert len(recycling.recycled.successors) == 0


@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([SUCCESSORS, 65, 2000]), count=st.integers(1, SUCCESSORS))
def test_of_equally_likely_successors_the_first_are_kept(seed: int, size: int, count: int) -> None:
    row = np.random.default_rng(seed).normal(0, 2, size).round().astype(np.float32)
    tokens, likely = most_likely(row, count)
    assert tokens.tolist() == np.argsort(-row, kind="stable")[:count].tolist()
    assert np.allclose(likely, torch.from_numpy(row).softmax(-1).numpy()[tokens], rtol=1e-5)

"""What is remembered of the target's logits."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.drafters.base import Step
from dresd_milvus.drafters.recycling import SUCCESSORS, Recycling, most_likely
from dresd_milvus.host import Scored
from dresd_milvus.tree import DraftTree


@given(seed=st.integers(0, 2**32 - 1), vocabulary=st.sampled_from([SUCCESSORS, 9, 300]))
def test_the_most_likely_successors_of_the_walked_nodes_are_kept(seed: int, vocabulary: int) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (4, vocabulary))).float()
    tree = DraftTree(np.array([1, 2, 3, 4], np.int32), np.array([-1, 0, 0, 2], np.int32))
    recycling = Recycling()
    recycling.observe(Step([0, 1, 3, 5], np.array([3, 5]), tree, np.array([0, 2]), Scored(logits, logits)))
    top = logits.softmax(-1).topk(SUCCESSORS)
    for token, node in ((1, 0), (3, 2)):
        assert recycling.recycled.successors[token].tolist() == top.indices[node].tolist()
        assert np.allclose(recycling.recycled.likely[token], top.values[node].numpy(), rtol=0.05)
    successors, likely = most_likely(logits)
    assert np.array_equal(successors, top.indices), "and what a device finds is the same"
    assert np.allclose(likely, top.values)
    assert (recycling.recycled.successors[[2, 4]] == -1).all(), "wrong branches are not the text's"


def test_a_target_without_logits_leaves_nothing() -> None:
    recycling, logits = Recycling(), torch.zeros(1, 0)
    recycling.observe(Step([0, 1], np.array([1]), DraftTree.root_only(0), np.array([0]), Scored(logits, logits)))
    assert len(recycling.recycled.successors) == 0

"""What the model is given: every node at its depth, and seeing the text and its own ancestors only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.inputs import TreeInputs
from dresd_milvus.tree import DraftTree
from tests.core.trees import climb

CPU = torch.device("cpu")
steps = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 40), st.integers(0, 2**16)), min_size=1, max_size=6)


def random_tree(size: int, seed: int) -> DraftTree:
    random = np.random.default_rng(seed)
    parents = [-1, *(int(random.integers(0, node)) for node in range(1, size))]
    return DraftTree(np.arange(size, dtype=np.int32) + 7, np.array(parents, np.int32))


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@given(steps=steps)
def test_each_step_sees_its_text_and_its_ancestors_whatever_came_before(
    staged: bool, dtype: torch.dtype, steps: list[tuple[int, int, int]]
) -> None:
    made = TreeInputs(CPU, dtype, staged, nodes=4, length=16)  # both are outgrown
    for size, start, seed in steps:
        tree = random_tree(size, seed)
        ids, positions, mask = made.of(tree, start)
        lines = [climb(tree, node) for node in range(size)]
        assert ids.tolist() == [tree.tokens.tolist()]
        assert positions.tolist() == [[start + len(line) - 1 for line in lines]]
        if size == 1:
            assert mask is None
            continue
        expected = torch.full((size, start + size), torch.finfo(dtype).min, dtype=dtype)
        expected[:, :start] = 0
        for node, line in enumerate(lines):
            expected[node, [start + above for above in line]] = 0
        assert mask is not None and mask.dtype == dtype and torch.equal(mask[0, 0], expected)

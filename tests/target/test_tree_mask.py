"""The inputs of a tree: positions by depth, and masks that show a node its text and ancestors within the window."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.target.tree_mask import tree_inputs
from tests.decoding.trees import climb, trees

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@given(tree=trees(), start=st.integers(0, 40), window=st.integers(1, 50))
def test_nodes_see_their_text_and_their_ancestors(dtype: torch.dtype, tree, start: int, window: int) -> None:
    size = len(tree.tokens)
    ids, positions, masks = tree_inputs(tree, start, {"all": None, "near": window}, CPU, dtype)
    lines = [climb(tree, node) for node in range(size)]
    assert ids.dtype == positions.dtype == torch.int64
    assert ids.tolist() == [tree.tokens.tolist()]
    assert positions.tolist() == [[start + len(line) - 1 for line in lines]]
    expected = torch.full((2, size, start + size), torch.finfo(dtype).min, dtype=dtype)
    for node, line in enumerate(lines):
        rows = [*range(start), *(start + above for above in line)]  # at positions 0, 1, 2, ... of the node's text
        expected[0, node, rows] = 0
        expected[1, node, rows[-window:]] = 0
    assert masks is not None and masks.keys() == {"all", "near"}
    for mask, right in zip(masks.values(), expected, strict=True):
        assert mask.dtype == dtype and torch.equal(mask[0, 0], right)

"""Random draft trees for tests, and a slow way to read them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dresd_milvus.decoding.tree import DraftTree

ROOT = 9


@st.composite
def trees(draw, tokens=20):
    """Any valid tree: random parents, random tokens that differ between siblings."""
    parents, seen, labels = [-1], set(), [ROOT]
    for _ in range(draw(st.integers(0, 24))):
        parent, token = draw(st.integers(0, len(parents) - 1)), draw(st.integers(0, tokens - 1))
        if (parent, token) not in seen:
            seen.add((parent, token))
            parents.append(parent)
            labels.append(token)
    return DraftTree(np.array(labels, np.int32), np.array(parents, np.int32))


def climb(tree: DraftTree, node: int) -> list[int]:
    """The path to a node, the root first."""
    path = [node]
    while path[-1]:
        path.append(int(tree.parents[path[-1]]))
    return path[::-1]

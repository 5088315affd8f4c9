"""Draft trees, looked at the slow way."""

from __future__ import annotations

from dresd_milvus.tree import DraftTree


def climb(tree: DraftTree, node: int) -> list[int]:
    """A node and all above it, the root first."""
    path = [node]
    while path[-1]:
        path.append(int(tree.parents[path[-1]]))
    return path[::-1]

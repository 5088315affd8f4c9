"""Trees grown for drafts, and what became of them: see `growth` for how, `mixing` for what is learned."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.drafters.hybrid.evidence import KINDS, Table
from dresd_milvus.drafters.hybrid.growth import CANDIDATE, CANDIDATES, NODE, grown
from dresd_milvus.drafters.hybrid.mixer import Mixer, follow
from dresd_milvus.recycling import Recycled
from dresd_milvus.tree import DraftTree, Int64


class Expansion:
    """Grows trees of at most `nodes` draft nodes, and learns from what became of the last one."""

    def __init__(self, nodes: int = 128) -> None:
        self._make(nodes)
        self._alive = np.empty(4096, np.int32)
        self.size = 0

    def _make(self, nodes: int) -> None:
        """Room for the root and so many nodes."""
        many = (nodes + 1) * CANDIDATES
        self._nodes, self._candidates = np.zeros(nodes + 1, NODE), np.zeros(many, CANDIDATE)
        self._cells = np.zeros((many, KINDS), np.int32)

    def grow(
        self,
        root: int,
        table: Table,
        recycled: Recycled,
        mixer: Mixer,
        max_nodes: int,
        max_depth: int,
    ) -> NDArray[np.float64]:
        """Grow the tree after a root; the reaches [n] of its draft nodes, falling.

        mixer: what candidates are weighed with; SHARES takes shares for chances, of evidence of one kind.
        """
        if max_nodes >= len(self._nodes):
            self._make(max_nodes)
        if (needed := (max_nodes + 2) * table.size) > len(self._alive):
            self._alive = np.empty(2 * needed, np.int32)
        room = self._nodes, self._candidates, self._cells, self._alive
        known = *table.whole, *recycled, *mixer
        self._tokens, self._parents, reach = grown(root, max_nodes, max_depth, table.size, *(*known, *room))
        self.size = len(self._tokens)
        return reach

    def tree(self, nodes: int, source: str) -> DraftTree:
        """The first so many draft nodes as a tree."""
        return DraftTree.grown(self._tokens[: nodes + 1], self._parents[: nodes + 1], source)

    def forget(self) -> None:
        """There is no last tree."""
        self.size = 0

    def learn(self, mixer: Mixer, new: Int64) -> None:
        """Have the mixer learn what came, tokens [n], after the root of the last tree; then that tree is forgotten."""
        if self.size:
            _learn(new, self.size, *mixer, self._nodes, self._candidates, self._cells)
        self.size = 0


@compiled
def _learn(new, size, known, weights, curve, nodes, candidates, cells):  # type: ignore[no-untyped-def]
    """Tell the mixer (known, weights, curve) of every candidate after the nodes that the text went through whether it
    came. Arrays by themselves, for the types of a named tuple take longer to look up than this takes."""
    mixer, at = Mixer(known, weights, curve), 0
    for token in new:
        node = nodes[at]
        for index in range(node.first, node.last):
            candidate = candidates[index]
            follow(mixer, node.weights, node.curve, candidate.odds, cells[index], candidate.token == token)
        below = at + 1
        while below < size and not (nodes[below].parent == at and nodes[below].token == token):
            below += 1
        if below == size:
            return
        at = below

"""The draft tree of highest expected accepted length that the evidence of several sources gives, node after node.

A node's reach is how likely the text goes through it: the product of the chances of the tokens down to it. The tree is
grown best first: the candidate of highest reach becomes the next node, and its own candidates are weighed. So the first
n nodes are, for every n, the n of highest reach, a tree, and the sum of their reaches is the accepted length to expect.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.evidence import DEEPEST, GRADES, KINDS, Evidence, Kind
from dresd_milvus.mixing import BESTS, LARGEST, Mixer, cell, follow, mixed, truth
from dresd_milvus.tree import DraftTree, Int32

CANDIDATES = 48
"""Different tokens that are weighed after one node."""

SLOTS = 128
"""Of the table that finds a candidate by its token: a power of two, well above CANDIDATES."""

FLOOR = 1e-3
"""A candidate that is less likely to be reached is not drafted."""

RECYCLED = int(Kind.RECYCLED)


class Recycled(NamedTuple):
    """The target's own last word on every token: successors int32 [V, K], most likely first, -1 for none, and how
    likely it held them, float32 [V, K]."""

    successors: Int32
    likely: NDArray[np.float32]

    @classmethod
    def nothing(cls, vocabulary: int = 0, width: int = 8) -> Recycled:
        return cls(np.full((vocabulary, width), -1, np.int32), np.zeros((vocabulary, width), np.float32))


class _Nodes(NamedTuple):
    """tokens, parents, depths: int32 [N]; reach: float64 [N]; first, last: int32 [N], its candidates; rows: int32
    [N, 2], where those of the evidence that go through it begin and end in `alive`; weights, curve: int32 [N], what its
    candidates are mixed with and read off."""

    tokens: Int32
    parents: Int32
    depths: Int32
    reach: NDArray[np.float64]
    first: Int32
    last: Int32
    rows: Int32
    weights: Int32
    curve: Int32


class _Candidates(NamedTuple):
    """tokens, nodes: int32 [C]; odds, chance: float64 [C]; cells: int32 [C, KINDS]."""

    tokens: Int32
    nodes: Int32
    odds: NDArray[np.float64]
    chance: NDArray[np.float64]
    cells: Int32


class _Desk(NamedTuple):
    """Where one node's evidence is added up. slots: int32 [SLOTS, 2], (token, candidate); weight: float64
    [CANDIDATES, KINDS] and grade int32, of a candidate; mass: float64 [KINDS], many, best: int32 [KINDS], of all."""

    slots: Int32
    weight: NDArray[np.float64]
    grade: Int32
    mass: NDArray[np.float64]
    many: Int32
    best: Int32


class Expansion:
    """Grows trees of at most `nodes` draft nodes, and learns from what became of the last one."""

    def __init__(self, nodes: int = 128) -> None:
        self._make(nodes)
        self.size = 0

    def _make(self, nodes: int) -> None:
        many = (nodes + 1) * CANDIDATES
        ints, floats = _zeros(np.int32), _zeros(np.float64)
        size = nodes + 1
        lists = {name: ints(size) for name in _Nodes._fields}
        self._nodes = _Nodes(**{**lists, "reach": floats(size), "rows": ints(size, 2)})
        self._candidates = _Candidates(ints(many), ints(many), floats(many), floats(many), ints(many, KINDS))
        self._desk = _Desk(
            ints(SLOTS, 2), floats(CANDIDATES, KINDS), ints(CANDIDATES, KINDS), floats(KINDS), ints(KINDS), ints(KINDS)
        )

    def grow(
        self,
        root: int,
        evidence: Evidence,
        recycled: Recycled,
        mixer: Mixer | None,
        max_nodes: int,
        max_depth: int,
    ) -> NDArray[np.float64]:
        """Grow the tree after a root; the reaches [n] of its draft nodes, falling.

        mixer: what candidates are weighed with; None takes shares for chances, of evidence of one kind.
        """
        if max_nodes >= len(self._nodes.tokens):
            self._make(max_nodes)
        alive = np.empty((max_nodes + 2) * max(len(evidence.rows), 1), np.int32)
        self.size = _grow(
            root, max_nodes, max_depth, evidence, recycled, mixer, GRADES,
            self._nodes, self._candidates, self._desk, alive,
        )  # fmt: skip
        return self._nodes.reach[1 : self.size]

    def tree(self, nodes: int, source: str) -> DraftTree:
        """The first so many draft nodes as a tree."""
        size = min(nodes + 1, self.size)
        return DraftTree(self._nodes.tokens[:size].copy(), self._nodes.parents[:size].copy(), source)

    def forget(self) -> None:
        """There is no last tree."""
        self.size = 0

    def learn(self, mixer: Mixer, new: Sequence[int]) -> None:
        """Have the mixer learn what came after the root of the last tree; then that tree is forgotten."""
        if self.size:
            _learn(np.asarray(new, np.int32), self.size, mixer, self._nodes, self._candidates)
        self.size = 0


def _zeros(kind: Any) -> Any:
    return lambda *shape: np.zeros(shape, kind)


@compiled
def _grow(root, max_nodes, max_depth, evidence, recycled, mixer, grades, nodes, candidates, desk, alive):  # type: ignore[no-untyped-def]
    """-> how many nodes, the root among them."""
    rows = evidence.rows
    for row in range(len(rows)):
        alive[row] = row
    used, made, size, node = len(rows), 0, 1, 0
    queue = [(0.0, -1)]  # (less the reach, candidate), least first; the entry gives the list its type
    queue.clear()
    nodes.tokens[0], nodes.parents[0], nodes.depths[0], nodes.reach[0] = root, -1, 0, 1.0
    nodes.rows[0, 0], nodes.rows[0, 1] = 0, used
    while True:
        nodes.first[node] = made
        if nodes.depths[node] < max_depth:
            made = _weigh(node, made, evidence, recycled, mixer, grades, nodes, candidates, desk, alive)
        nodes.last[node] = made
        for candidate in range(nodes.first[node], made):
            reach = nodes.reach[node] * candidates.chance[candidate]
            if reach >= FLOOR:
                heapq.heappush(queue, (-reach, candidate))
        if size > max_nodes or len(queue) == 0:
            return size
        missed, candidate = heapq.heappop(queue)
        parent, node = candidates.nodes[candidate], size
        size += 1
        token, depth = candidates.tokens[candidate], nodes.depths[parent]
        nodes.tokens[node], nodes.parents[node], nodes.reach[node] = token, parent, -missed
        nodes.depths[node] = depth + 1
        nodes.rows[node, 0] = used
        if depth < rows.shape[1]:
            for at in range(nodes.rows[parent, 0], nodes.rows[parent, 1]):
                if rows[alive[at], depth] == token:
                    alive[used] = alive[at]
                    used += 1
        nodes.rows[node, 1] = used


@compiled
def _weigh(node, made, evidence, recycled, mixer, grades, nodes, candidates, desk, alive):  # type: ignore[no-untyped-def]
    """Add a node's candidates behind the `made` ones that there are; how many there are then."""
    speaking, count = _hear(node, evidence, recycled, grades, nodes, candidates, desk, alive, made)
    depth = nodes.depths[node]
    weights = speaking + ((0 if depth == 0 else 1 if depth < 3 else 2) << KINDS)
    nodes.weights[node] = weights
    for index in range(count):
        at = made + index
        candidates.nodes[at] = node
        if mixer is None:
            candidates.chance[at] = desk.weight[index].sum() / desk.mass.sum()
            continue
        for kind in range(KINDS):
            if speaking >> kind & 1:
                weight = desk.weight[index, kind]
                grade = desk.grade[index, kind] if weight > 0 else desk.best[kind]
                candidates.cells[at, kind] = cell(grade, weight / desk.mass[kind], desk.many[kind])
            else:
                candidates.cells[at, kind] = -1
        candidates.odds[at] = mixed(mixer, weights, candidates.cells[at])
    if mixer is not None:
        nodes.curve[node] = _curve(node, nodes, candidates.odds[made : made + count])
        for at in range(made, made + count):
            candidates.chance[at] = truth(mixer, nodes.curve[node], candidates.odds[at])
    return made + count


@compiled
def _hear(node, evidence, recycled, grades, nodes, candidates, desk, alive, made):  # type: ignore[no-untyped-def]
    """Add up on the desk what is said of the tokens after a node: (the set of kinds that speak, how many tokens)."""
    desk.slots[:, 0] = -1
    desk.weight[:] = 0
    desk.grade[:] = 0
    desk.mass[:] = 0
    desk.many[:] = 0
    desk.best[:] = 0
    speaking, count, depth = 0, 0, nodes.depths[node]
    if depth < evidence.rows.shape[1]:
        for place in range(nodes.rows[node, 0], nodes.rows[node, 1]):
            row = alive[place]
            token = evidence.rows[row, depth]
            if token < 0:
                continue
            kind, weight = evidence.kinds[row], evidence.weights[row]
            grade = grades[kind, evidence.quality[row], min(depth, DEEPEST)]
            speaking |= 1 << kind
            desk.mass[kind] += weight
            desk.many[kind] += 1
            desk.best[kind] = max(desk.best[kind], grade)
            count = _note(token, kind, weight, grade, count, candidates, desk, made)
    token = nodes.tokens[node]
    if token < len(recycled.successors) and recycled.successors[token, 0] >= 0:
        speaking |= 1 << RECYCLED
        desk.mass[RECYCLED] = 1.0
        desk.many[RECYCLED] = 1
        for rank in range(recycled.successors.shape[1]):
            successor, likely = recycled.successors[token, rank], recycled.likely[token, rank]
            if successor >= 0:
                count = _note(successor, RECYCLED, likely, rank, count, candidates, desk, made)
    return speaking, count


@compiled
def _note(token, kind, weight, grade, count, candidates, desk, made):  # type: ignore[no-untyped-def]
    """Add one voice for a token to the desk; how many candidates there are then. A token too many is left out."""
    slot = (token * 40503) & (SLOTS - 1)
    while desk.slots[slot, 0] >= 0 and desk.slots[slot, 0] != token:
        slot = (slot + 1) & (SLOTS - 1)
    if desk.slots[slot, 0] < 0:
        if count == CANDIDATES:
            return count
        desk.slots[slot, 0], desk.slots[slot, 1] = token, count
        candidates.tokens[made + count] = token
        count += 1
    index = desk.slots[slot, 1]
    desk.weight[index, kind] += weight
    desk.grade[index, kind] = max(desk.grade[index, kind], grade)
    return count


@compiled
def _curve(node, nodes, odds):  # type: ignore[no-untyped-def]
    """Which of the mixer's curves a node's candidates with these log-odds are read off.

    It differs with how likely the node itself is, and with how likely the best candidate: beside a strong one the weak
    are weaker.
    """
    reach = 0 if node == 0 else 1 + int(4.99 * min(nodes.reach[node], 1.0))
    best = -LARGEST
    for value in odds:
        best = max(best, value)
    return BESTS * reach + (0 if best < -1.5 else 1 if best < 0 else 2 if best < 1.5 else 3)


@compiled
def _learn(new, size, mixer, nodes, candidates):  # type: ignore[no-untyped-def]
    """Tell the mixer of every candidate after the nodes that the text went through whether it came."""
    node = 0
    for token in new:
        for at in range(nodes.first[node], nodes.last[node]):
            came = candidates.tokens[at] == token
            follow(mixer, nodes.weights[node], nodes.curve[node], candidates.odds[at], candidates.cells[at], came)
        below = node + 1
        while below < size and not (nodes.parents[below] == node and nodes.tokens[below] == token):
            below += 1
        if below == size:
            return
        node = below

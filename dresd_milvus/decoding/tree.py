"""The draft tree: tokens proposed after the last committed one, merged so that shared prefixes share nodes.

Node 0 is the root, the last committed token. A budget of n means n draft nodes; the root is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

PickAt = Callable[[int, int], int]
"""(node, depth) -> the target's own token after that node of a tree, which lies at this depth (0: the root)."""


class Walk(NamedTuple):
    """The path of a text through a tree.

    path: int64 [D], the visited nodes, the root first. picks: int64 [D], the target's token after each of them. The
    picks are the emitted text: the tokens of the path after the root, then the bonus, which no child carries.
    """

    path: Int64
    picks: Int64


class Paths(NamedTuple):
    """Token paths after the root, with weights.

    tokens: int32 [P, L]; -1 or the row's end ends a path. weights: float [P], not negative. If they sum to at most 1,
    the sum over the paths through a node estimates the probability that the text goes through it.
    """

    tokens: Int32
    weights: NDArray[np.floating]

    @classmethod
    def none(cls) -> Paths:
        return cls(np.empty((0, 0), np.int32), np.empty(0))


@dataclass(frozen=True, eq=False)
class DraftTree:
    """A token tree in topological order.

    tokens:  int32 [N], N >= 1; tokens[0] is the root.
    parents: int32 [N]; parents[0] = -1, else parents[i] < i; siblings carry distinct tokens.
    source:  name of the drafter that made it.

    Raises ValueError for anything else.
    """

    tokens: Int32
    parents: Int32
    source: str = ""

    def __post_init__(self) -> None:
        tokens, parents = self.tokens, self.parents
        if tokens.ndim != 1 or len(tokens) == 0 or tokens.shape != parents.shape:
            raise ValueError("a draft tree needs tokens [N] and parents [N] with N >= 1")
        if len(tokens) == 1 and parents[0] == -1:
            return  # a lone root, the commonest tree of all
        if fault := _fault(tokens, parents):
            raise ValueError(FAULTS[fault])

    def __len__(self) -> int:
        """Number of draft nodes (the root is not counted)."""
        return len(self.tokens) - 1

    @classmethod
    def root_only(cls, root: int, source: str = "") -> DraftTree:
        """A tree without draft nodes."""
        return cls(np.array([root], np.int32), np.array([-1], np.int32), source)

    @classmethod
    def from_paths(
        cls,
        root: int,
        paths: Int32,
        weights: NDArray[np.floating],
        max_nodes: int,
        max_depth: int,
        source: str = "",
    ) -> DraftTree:
        """Merge paths int32 [P, L] with weights [P] (see Paths) into a trie and keep its heaviest max_nodes nodes.

        root: the last committed token. max_depth: draft tokens on one path at most. A node weighs the sum of the paths
        through it (REST, 2311.08252, section 3.2, counts the paths). So a parent never weighs less than its child, and
        the heaviest nodes form a tree: of all trees of that size the one with the highest expected accepted length.
        Ties go to the shallower node, then to the row that comes first in lexicographic order.
        """
        if not paths.size or max_nodes <= 0 or max_depth <= 0:
            return cls.root_only(root, source)
        paths = paths[:, :max_depth]
        order = np.lexsort(paths.T[::-1])
        paths = paths[order]
        rows, depth = paths.shape
        valid = np.logical_and.accumulate(paths >= 0, axis=1)
        # After sorting, a cell starts a new trie node where its prefix differs from the row above.
        differs = np.ones((rows, depth), bool)
        np.logical_or.accumulate(paths[1:] != paths[:-1], axis=1, out=differs[1:])
        first = np.maximum.accumulate(np.where(differs, np.arange(rows)[:, None], 0), axis=0)
        cell = first * depth + np.arange(depth)  # [P, L]: the flat index of the cell that stands for the node
        of_path = np.broadcast_to(weights.astype(np.float64)[order, None], cell.shape)
        node_weight = np.bincount(cell[valid], weights=of_path[valid], minlength=cell.size)
        nodes = np.flatnonzero(differs & valid)
        nodes = nodes[np.lexsort((nodes // depth, nodes % depth, -node_weight[nodes]))[:max_nodes]]
        number = np.zeros(rows * depth, np.int32)
        number[nodes] = np.arange(1, len(nodes) + 1)
        column = nodes % depth
        parents = np.where(column > 0, number[cell.ravel()[nodes - (column > 0)]], 0)
        return cls(
            np.concatenate(([root], paths.ravel()[nodes])).astype(np.int32),
            np.concatenate(([-1], parents)).astype(np.int32),
            source,
        )

    def depths(self) -> Int32:
        """The depth of every node, int32 [N]: 0 for the root."""
        return _depths(self.parents)

    def walk(self, pick_at: PickAt) -> Walk:
        """Follow the target's picks through the tree; pick_at is called once per visited node, the root first."""
        path, picks = [0], list[int]()
        while True:
            picks.append(pick_at(path[-1], len(picks)))
            below = child(self.tokens, self.parents, path[-1], picks[-1])
            if below == 0:
                return Walk(np.array(path), np.array(picks))
            path.append(below)

    def along(self, tokens: Sequence[int]) -> Walk:
        """The walk of a text that goes on with these tokens after the root. Its last pick is -1 when they all match."""
        return self.walk(lambda node, depth: tokens[depth] if depth < len(tokens) else -1)


FAULTS = (
    "",
    "a draft tree's parents must be -1 for the root and point backwards elsewhere",
    "a draft tree holds padding; -1 is never drafted",
    "a draft tree's siblings must carry distinct tokens",
)


@compiled
def _fault(tokens: Int32, parents: Int32) -> int:
    """The index in FAULTS of the first invalid node's fault; 0 when all nodes are valid."""
    if parents[0] != -1:
        return 1
    for node in range(1, len(tokens)):
        if parents[node] < 0 or parents[node] >= node:
            return 1
        if tokens[node] < 0:
            return 2
        for other in range(1, node):
            if parents[other] == parents[node] and tokens[other] == tokens[node]:
                return 3
    return 0


@compiled
def child(tokens: Int32, parents: Int32, node: int, token: int) -> int:
    """The child of a node that carries this token; 0 when there is none."""
    for below in range(node + 1, len(tokens)):
        if parents[below] == node and tokens[below] == token:
            return below
    return 0


@compiled
def _depths(parents: Int32) -> Int32:
    """See `DraftTree.depths`; parents int32 [N] come before their children."""
    depths = np.zeros(len(parents), np.int32)
    for node in range(1, len(parents)):
        depths[node] = depths[parents[node]] + 1
    return depths

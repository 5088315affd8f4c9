"""The draft tree: several drafts of the next tokens in one structure, in which common prefixes share nodes.

Node 0 is the root, the last committed token of the text. Every other node is a draft token; the path from the root to
it is one way in which the text may go on. A budget of n nodes means n draft nodes, without the root.
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
"""(node, depth of the node) -> the target's own token after that node. The root has depth 0."""


class Walk(NamedTuple):
    """The path that the target takes through a tree.

    path:  int64 [D], the visited nodes, the root first.
    picks: int64 [D], the target's token after each of them. These are the emitted tokens: first the tokens of the path
           below the root, then the bonus, which no child of the last node carries.
    """

    path: Int64
    picks: Int64


class Paths(NamedTuple):
    """P drafts of the tokens after the root, not yet merged into a tree.

    tokens:  int32 [P, L], one path a row; -1 or the row's end ends a path.
    weights: float [P], not negative. Weights that sum to at most 1 are estimated probabilities: their sum over the
             paths through a node is the estimated probability that the text goes through that node.
    """

    tokens: Int32
    weights: NDArray[np.floating]

    @classmethod
    def none(cls) -> Paths:
        """No path."""
        return cls(np.empty((0, 0), np.int32), np.empty(0))


@dataclass(frozen=True, eq=False)
class DraftTree:
    """A tree of tokens; parents come before their children.

    tokens:  int32 [N], N >= 1; tokens[0] is the root.
    parents: int32 [N], the index of each node's parent; parents[0] = -1, else 0 <= parents[i] < i. The children of one
             node carry different tokens.
    source:  name of the drafter that made the tree.

    Raises ValueError for arrays of which this is not true.
    """

    tokens: Int32
    parents: Int32
    source: str = ""

    def __post_init__(self) -> None:
        tokens, parents = self.tokens, self.parents
        if tokens.ndim != 1 or len(tokens) == 0 or tokens.shape != parents.shape:
            raise ValueError("a draft tree needs tokens [N] and parents [N] with N >= 1")
        if len(tokens) == 1 and parents[0] == -1:
            return  # the root alone, which is the most frequent tree
        if error := _first_error(tokens, parents):
            raise ValueError(ERRORS[error])

    def __len__(self) -> int:
        """The number of draft nodes, without the root."""
        return len(self.tokens) - 1

    @classmethod
    def root_only(cls, root: int, source: str = "") -> DraftTree:
        """A tree without draft nodes: the root token alone."""
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
        """Merge paths into a trie and keep the max_nodes nodes with the highest weight.

        root: the last committed token. paths: int32 [P, L] and weights: float [P], see Paths. max_depth: the most
        tokens on one path.
        The weight of a node is the sum of the weights of the paths through it (REST, arXiv 2311.08252, section 3.2,
        where every path has weight 1). A parent never has less weight than its child, so the kept nodes form a tree. Of
        all trees of this size it has the highest expected accepted length. Ties go to the shallower node, then to the
        path that comes first in lexicographic order.
        """
        if not paths.size or max_nodes <= 0 or max_depth <= 0:
            return cls.root_only(root, source)
        paths = paths[:, :max_depth]
        order = np.lexsort(paths.T[::-1])
        paths = paths[order]
        rows, depth = paths.shape
        valid = np.logical_and.accumulate(paths >= 0, axis=1)
        # Rows are sorted: a cell [row, column] starts a new trie node where its prefix differs from the row above.
        differs = np.ones((rows, depth), bool)
        np.logical_or.accumulate(paths[1:] != paths[:-1], axis=1, out=differs[1:])
        first = np.maximum.accumulate(np.where(differs, np.arange(rows)[:, None], 0), axis=0)
        cell = first * depth + np.arange(depth)  # [P, L]: the flat index of the first cell of the node
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
        """Follow the target's picks from the root down, until no child carries the pick.

        pick_at is called once for every visited node, the root first.
        """
        path, picks = [0], list[int]()
        while True:
            picks.append(pick_at(path[-1], len(picks)))
            below = child(self.tokens, self.parents, path[-1], picks[-1])
            if below == 0:
                return Walk(np.array(path), np.array(picks))
            path.append(below)

    def follow(self, tokens: Sequence[int]) -> Walk:
        """The walk whose picks are these tokens, one after the other, as if the target had picked them.

        When the tree has all of them, the last pick is -1.
        """
        return self.walk(lambda node, depth: tokens[depth] if depth < len(tokens) else -1)


ERRORS = (
    "",
    "a draft tree's parents must be -1 for the root and point backwards elsewhere",
    "a draft tree must not contain padding (-1)",
    "a draft tree's siblings must carry distinct tokens",
)


@compiled
def _first_error(tokens: Int32, parents: Int32) -> int:
    """The index in ERRORS of what is wrong with the first invalid node; 0 when all nodes are valid."""
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
    """The child of a node that carries this token; 0 (the root is nobody's child) when there is none.

    tokens, parents: int32 [N], see DraftTree.
    """
    for below in range(node + 1, len(tokens)):
        if parents[below] == node and tokens[below] == token:
            return below
    return 0


@compiled
def _depths(parents: Int32) -> Int32:
    """The depth of every node, int32 [N]; parents: int32 [N]."""
    depths = np.zeros(len(parents), np.int32)
    for node in range(1, len(parents)):
        depths[node] = depths[parents[node]] + 1
    return depths

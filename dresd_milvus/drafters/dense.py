"""Dense retrieval (DReSD): the continuations of the stored states most like the one that produced the root."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.drafters.base import Context, PathDrafter
from dresd_milvus.evidence import Kind, Table
from dresd_milvus.host import readable
from dresd_milvus.projection import Projection, key_of
from dresd_milvus.replica import Replica, nearest
from dresd_milvus.store import ContinuationStore, Hits
from dresd_milvus.tree import Paths

DENSE = int(Kind.DENSE)

NEIGHBOURS = 50
"""Hits per search, as published."""


class Dense(PathDrafter):
    """Searches the projected hidden state and merges the hits' continuations into a tree.

    neighbours: hits per search. sharpness: a hit's vote is exp(sharpness * (score - best score)),
    normalised to sum 1, so that a path's weight estimates its probability; the published system counts hits alike.
    """

    name = "dense"

    def __init__(
        self, store: ContinuationStore, projection: Projection, neighbours: int = NEIGHBOURS, sharpness: float = 10.0
    ) -> None:
        store.manifest.require(projection=projection.fingerprint)
        self.store, self.projection = store, projection
        self.neighbours, self.sharpness = neighbours, sharpness

    def propose(self, context: Context) -> Paths:
        if context.states is None:
            return Paths.none()
        hits = self.search(context)
        usable = hits.continuations[0, :, 0] == context.tokens[-1]
        scores = hits.scores[0, usable]
        votes = self.votes(scores)
        return Paths(hits.continuations[0, usable, 1:], votes / votes.sum()) if len(votes) else Paths.none()

    def tell(self, context: Context, table: Table) -> int:
        """The same as evidence: similarity in tenths above 0.4."""
        if context.states is None:
            return 0
        root, into = context.tokens[-1], table.reserve(self.neighbours, context.max_depth)
        how = self.sharpness, table.size, context.max_depth
        if isinstance(self.store, Replica) and context.states.is_cpu:
            _kept, held = readable(context.states)
            near = *held, context.node, *self.projection.arrays, *self.store.arrays
            table.size = _tell(self.neighbours, root, *how, *(*near, *into))
        else:
            table.size = _put(*self.search(context), root, *how, *into)
        return 0

    def votes(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """What hits of these scores [K] weigh, the best of them 1."""
        return np.exp(self.sharpness * (scores - scores.max(initial=-1)).astype(np.float64))

    def search(self, context: Context) -> Hits:
        """Whatever a store's filter lets through: a continuation that does not begin with the root is no draft."""
        assert context.states is not None
        query = self.projection.query(context.states, context.node)
        return self.store.search(query, np.array([context.tokens[-1]]), self.neighbours)


@compiled
def _tell(  # type: ignore[no-untyped-def]
    neighbours, root, sharpness, row, depth, address, width, kind, node, weight, bias, high, low, scale, continuations,
    starts, rows, kinds, quality, weights,
):  # fmt: skip
    """`Dense.tell` of a replica: key, search and table in one call, for three find their code driven out of the
    processor's caches three times."""
    query, tokens = key_of(weight, bias, address, width, kind, node), np.full(1, root, np.int64)
    scores, found = nearest(high, low, scale, continuations, starts, query, tokens, neighbours)
    return _put(scores, found, root, sharpness, row, depth, rows, kinds, quality, weights)


@compiled
def _put(  # type: ignore[no-untyped-def]
    scores, continuations, root, sharpness, row, depth, rows, kinds, quality, weights
):  # fmt: skip
    """Put down from a row on the hits of one search, scores float32 [1, K] and continuations int32 [1, K, N], that
    begin with the root; where they end."""
    best = np.float32(-np.inf)
    for hit in range(scores.shape[1]):
        if continuations[0, hit, 0] == root:
            best = max(best, scores[0, hit])
    for hit in range(scores.shape[1]):
        if continuations[0, hit, 0] != root:
            continue
        kinds[row] = DENSE
        quality[row] = min(max(int(10 * (scores[0, hit] - 0.4)), 0), 6)
        weights[row] = np.exp(sharpness * (scores[0, hit] - best))
        for at in range(depth):
            rows[row, at] = continuations[0, hit, at + 1] if at + 1 < continuations.shape[2] else -1
        row += 1
    return row

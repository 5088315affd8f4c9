"""Dense retrieval (DReSD): the continuations of the stored states most like the one that produced the root."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.drafters.base import Context, PathDrafter
from dresd_milvus.evidence import Evidence, Kind
from dresd_milvus.projection import Projection
from dresd_milvus.store import ContinuationStore
from dresd_milvus.tree import Int32, Paths

NEIGHBOURS = 50
"""Hits per search, as published."""


class Dense(PathDrafter):
    """Searches the projected hidden state and merges the hits' continuations into a tree.

    neighbours: hits per search. sharpness: a hit's vote is exp(sharpness * (score - best score)),
    normalised to sum 1, so that a path's weight estimates its probability; the published system counts hits alike.
    """

    name = "dense"
    dear = True

    def __init__(
        self, store: ContinuationStore, projection: Projection, neighbours: int = NEIGHBOURS, sharpness: float = 10.0
    ) -> None:
        store.manifest.require(projection=projection.fingerprint)
        self.store, self.projection = store, projection
        self.neighbours, self.sharpness = neighbours, sharpness

    def propose(self, context: Context) -> Paths:
        continuations, scores = self._search(context)
        votes = self._votes(scores)
        return Paths(continuations, votes / votes.sum()) if len(votes) else Paths.none()

    def tell(self, context: Context) -> list[Evidence]:
        """The same as evidence: similarity in tenths above 0.4."""
        continuations, scores = self._search(context)
        similarity = np.clip(10 * (scores - 0.4), 0, 6).astype(np.int32)
        return [Evidence.of(Kind.DENSE, continuations, similarity, self._votes(scores))] if len(scores) else []

    def _search(self, context: Context) -> tuple[Int32, NDArray[np.float32]]:
        """(continuations [P, N - 1] after the root, scores [P]) of the hits that can be used, best first."""
        if context.hidden is None:
            return np.empty((0, 0), np.int32), np.empty(0, np.float32)
        root = context.tokens[-1]
        hits = self.store.search(self.projection.query(context.hidden), np.array([root]), self.neighbours)
        # Whatever the store's filter let through, a continuation that does not begin with the root is no draft.
        continuations, scores = hits.continuations[0], hits.scores[0]
        usable = continuations[:, 0] == root
        if not usable.all():
            continuations, scores = continuations[usable], scores[usable]
        return continuations[:, 1:], scores

    def _votes(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.exp(self.sharpness * (scores - scores.max(initial=-np.inf))).astype(np.float64)

"""Dense retrieval (DReSD): the continuations of the stored states most like the one that produced the root."""

from __future__ import annotations

import numpy as np

from dresd_milvus.drafters.base import Context, PathDrafter
from dresd_milvus.projection import Projection
from dresd_milvus.store import ContinuationStore
from dresd_milvus.tree import Paths

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
        if context.hidden is None:
            return Paths.none()
        root = context.tokens[-1]
        query = self.projection(context.hidden[None]).cpu().numpy()
        hits = self.store.search(query, np.array([root]), self.neighbours)
        # Whatever the store's filter let through, a continuation that does not begin with the root is no draft.
        usable = hits.continuations[0, :, 0] == root
        scores = hits.scores[0, usable]
        if len(scores) == 0:
            return Paths.none()
        votes = np.exp(self.sharpness * (scores - scores.max()))
        return Paths(hits.continuations[0, usable, 1:], votes / votes.sum())

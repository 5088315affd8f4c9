"""Dense retrieval (DReSD): the continuations of the stored states most like the one that produced the root."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.decoding.tree import Paths
from dresd_milvus.drafters.base import PathDrafter
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.store import NEIGHBOURS, ContinuationStore, Hits


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

    def votes(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """What hits of these scores [K] weigh, the best of them 1."""
        return np.exp(self.sharpness * (scores - scores.max(initial=-1)).astype(np.float64))

    def search(self, context: Context) -> Hits:
        """Whatever a store's filter lets through: a continuation that does not begin with the root is no draft."""
        assert context.states is not None
        query = self.projection.query(context.states, context.node)
        return self.store.search(query, np.array([context.tokens[-1]]), self.neighbours)

"""Dense retrieval (DReSD): the continuations of the stored states most like the one that produced the root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.decoding.tree import Int32, Int64, Paths
from dresd_milvus.drafters.base import PathDrafter
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.store import NEIGHBOURS, ContinuationStore, Hits


class Neighbours(NamedTuple):
    """The hits of one text that may be drafted, the best first.

    rows: int32 [K, N - 1], the tokens after the root, padded with -1. scores: float32 [K], the similarities.
    votes: float64 [K], what each of them weighs, the best 1. pks: int64 [K], primary keys.
    """

    rows: Int32
    scores: NDArray[np.float32]
    votes: NDArray[np.float64]
    pks: Int64


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
        [(rows, _, votes, _)] = self.search([context])
        return Paths(rows, votes / votes.sum()) if len(votes) else Paths.none()

    def search(self, contexts: Sequence[Context]) -> list[Neighbours]:
        """The neighbours of every context [B], all of which have states: one projection and one search for all."""
        if not contexts:
            return []
        queries, roots = self.queries(contexts)
        return self.usable(self.store.search(queries, roots, self.neighbours), roots)

    def queries(self, contexts: Sequence[Context]) -> tuple[NDArray[np.float32], Int64]:
        """What to search for: keys float32 [B, d] on the host, and the roots int64 [B] that hits begin with."""
        states = torch.stack([hidden for context in contexts if (hidden := context.hidden) is not None])
        return self.projection.query(states), np.array([context.tokens[-1] for context in contexts], np.int64)

    def usable(self, hits: Hits, roots: Int64) -> list[Neighbours]:
        """The neighbours of every root [B] among the hits of its search. Whatever a store's filter lets through, a
        continuation that does not begin with the root is no draft."""
        right = hits.continuations[:, :, 0] == roots[:, None]
        scores = np.where(right, hits.scores, np.float32(-np.inf))
        best = scores.max(axis=1, initial=-1, keepdims=True)
        votes = np.exp(self.sharpness * (scores - best).astype(np.float64))
        return [
            Neighbours(hits.continuations[at, kept, 1:], scores[at, kept], votes[at, kept], hits.pks[at, kept])
            for at, kept in enumerate(right)
        ]

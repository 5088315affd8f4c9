"""REST (arXiv 2311.08252): the draft is what followed the longest exact match of the text's end in a corpus."""

from __future__ import annotations

import numpy as np

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.decoding.tree import Paths
from dresd_milvus.drafters.base import PathDrafter
from dresd_milvus.retrieval.suffix_store import SuffixStore

MAX_MATCH = 16
"""The most tokens of a match, as published."""

MAX_DEPTH = 10
"""The most tokens of a continuation that are drafted, as published."""

MAX_OCCURRENCES = 512
"""The most occurrences of a match that are read. Of more, this number is read at equal distances in sorted order."""


class Rest(PathDrafter):
    """Merges the continuations of the longest match into a tree; a node has the share of the continuations through it.

    max_match, min_match: tokens of a match. max_occurrences: see MAX_OCCURRENCES.
    Two differences from the published system: of very many occurrences it takes some at equal distances instead of
    random ones, so that drafts are deterministic; and it uses a match of one token if there is no longer one.
    """

    name = "rest"

    def __init__(
        self,
        store: SuffixStore,
        max_match: int = MAX_MATCH,
        max_occurrences: int = MAX_OCCURRENCES,
        min_match: int = 1,
    ) -> None:
        self.store, self.max_match = store, max_match
        self.max_occurrences, self.min_match = max_occurrences, min_match

    def propose(self, context: Context) -> Paths:
        match = self.store.longest(context.tokens[-self.max_match :], self.max_match)
        if match is None or match.length < self.min_match:
            return Paths.none()
        paths, _ = self.store.continuations(match, min(MAX_DEPTH, context.max_depth), self.max_occurrences)
        return Paths(paths, np.full(len(paths), 1 / len(paths)))

"""REST: continuations of the longest exact match in a corpus, merged into a trie by frequency (2311.08252)."""

from __future__ import annotations

import numpy as np

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.decoding.tree import Paths
from dresd_milvus.drafters.base import PathDrafter
from dresd_milvus.retrieval.suffix_store import SuffixStore

LONGEST = 16
"""Tokens matched at most, as published."""

CONTINUATION = 10
"""Tokens drafted of a continuation, as published."""

MOST = 512
"""Continuations looked at; of more, so many at even distances."""


class Rest(PathDrafter):
    """Drafts what followed the longest match of the text's end.

    Differs from the published system in being deterministic (of very many matches it takes evenly spaced ones of the
    sorted order instead of random ones) and in matching a single token too where nothing longer is found.
    """

    name = "rest"

    def __init__(self, store: SuffixStore, longest: int = LONGEST, most: int = MOST, shortest: int = 1) -> None:
        self.store, self.longest, self.most, self.shortest = store, longest, most, shortest

    def propose(self, context: Context) -> Paths:
        match = self.store.longest(context.tokens[-self.longest :], self.longest)
        if match is None or match.length < self.shortest:
            return Paths.none()
        paths = self.store.continuations(match, min(CONTINUATION, context.max_depth), self.most)
        return Paths(paths, np.full(len(paths), 1 / len(paths)))

"""SuffixDecoding (2411.04975): drafts what followed the same tokens earlier in the text, or in a corpus.

As published (section 3): the continuations of every match of the text's end make one tree. A node weighs its share of
the occurrences, and a tree has at most four nodes for each token that matches. The tree with the highest sum of weights
is the draft. Unlike the published system, the corpus is in a suffix array instead of a suffix tree, and of very many
occurrences only some are read, at even distances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.tree import DraftTree, Int32
from dresd_milvus.drafters.hybrid.evidence import Evidence, Kind
from dresd_milvus.drafters.hybrid.matches import earlier_occurrences
from dresd_milvus.drafters.hybrid.mixer import NO_MIXER
from dresd_milvus.drafters.hybrid.recycling import NOTHING
from dresd_milvus.drafters.hybrid.tree_builder import grow
from dresd_milvus.retrieval.suffix_store import SuffixStore

LONGEST = 64
"""Tokens of a match at most, as published."""

MOST = 128
"""Occurrences that are read: of each match in the corpus, and of the last token in the running text (the latest)."""

NODES_PER_TOKEN = 4
"""Draft nodes at most for each token that matches; the published max_spec_factor."""


class Suffix:
    """Drafts from exact matches alone.

    store: the corpus, None for the running text alone. longest: tokens of a match at most. most: occurrences that are
    read.
    """

    name = "suffix"

    def __init__(self, store: SuffixStore | None, longest: int = LONGEST, most: int = MOST) -> None:
        self.store, self.longest, self.most = store, longest, most

    def begin(self, prompt: Sequence[int]) -> None:
        pass

    def observe(self, step: Step) -> None:
        pass

    def draft(self, context: Context) -> DraftTree:
        root, best, score = context.tokens[-1], DraftTree.root_only(context.tokens[-1], self.name), 0.0
        if context.max_nodes <= 0 or context.max_depth <= 0:
            return best
        for length, rows in (*self._in_text(context), *self._in_corpus(context)):
            most = min(context.max_nodes, NODES_PER_TOKEN * length)
            evidence = Evidence.of(Kind.TEXT, rows, length)
            grown = grow(root, evidence, NOTHING, NO_MIXER, most, context.max_depth)
            if (found := float(grown.reach[1:].sum())) > score:
                best, score = grown.tree(most, self.name), found
        return best

    def _in_text(self, context: Context) -> Iterator[tuple[int, Int32]]:
        """(length, continuations int32 [P, depth]) of every match in the running text, the longest first."""
        text = np.array(context.tokens, np.int32)
        following, lengths = earlier_occurrences(text, self.longest, self.most, context.max_depth)
        for length in sorted(set(lengths.tolist()), reverse=True):
            yield length, following[lengths >= length]

    def _in_corpus(self, context: Context) -> Iterator[tuple[int, Int32]]:
        """The same in the corpus; of matches that occur equally often only the longest."""
        if self.store is None:
            return
        text = np.array(context.tokens[-self.longest :], np.int64)
        match = self.store.longest(text, self.longest)
        while match is not None:
            yield match.length, self.store.continuations(match, context.max_depth, self.most)
            match = self.store.shorter(text, match)

"""SuffixDecoding (arXiv 2411.04975): drafts what followed the text's last tokens earlier in the text or in a corpus.

As published (section 3), the continuations of each match of the text's end form one tree. The weight of a node is its
share of the occurrences, and a tree has at most four nodes for each matching token. The tree with the highest sum of
weights is the draft. Two differences from the published system: the corpus is in a suffix array instead of a suffix
tree, and of very many occurrences only some are read, at equal distances.
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

MAX_MATCH = 64
"""The most tokens of a match, as published."""

MAX_OCCURRENCES = 128
"""The most occurrences that are read of a match: in the corpus at equal distances, in the running text the latest."""

NODES_PER_TOKEN = 4
"""The most draft nodes for each matching token; the published max_spec_factor."""


class Suffix:
    """Drafts from exact matches of the text's end.

    store: the corpus, None for the running text alone. max_match: the most tokens of a match. max_occurrences: see
    MAX_OCCURRENCES.
    """

    name = "suffix"

    def __init__(
        self, store: SuffixStore | None, max_match: int = MAX_MATCH, max_occurrences: int = MAX_OCCURRENCES
    ) -> None:
        self.store, self.max_match, self.max_occurrences = store, max_match, max_occurrences

    def begin(self, prompt: Sequence[int]) -> None:
        pass

    def observe(self, step: Step) -> None:
        pass

    def draft(self, context: Context) -> DraftTree:
        root, best, score = context.tokens[-1], DraftTree.root_only(context.tokens[-1], self.name), 0.0
        if context.max_nodes <= 0 or context.max_depth <= 0:
            return best
        for length, rows in (*self._in_text(context), *self._in_corpus(context)):
            max_nodes = min(context.max_nodes, NODES_PER_TOKEN * length)
            evidence = Evidence.of(Kind.TEXT, rows, length)
            grown = grow(root, evidence, NOTHING, NO_MIXER, max_nodes, context.max_depth)
            if (expected := float(grown.reach[1:].sum())) > score:
                best, score = grown.tree(max_nodes, self.name), expected
        return best

    def _in_text(self, context: Context) -> Iterator[tuple[int, Int32]]:
        """(tokens of the match, continuations int32 [P, depth]) of every match in the running text, longest first."""
        text = np.array(context.tokens, np.int32)
        following, lengths, _ = earlier_occurrences(text, self.max_match, self.max_occurrences, context.max_depth)
        for length in sorted(set(lengths.tolist()), reverse=True):
            yield length, following[lengths >= length]

    def _in_corpus(self, context: Context) -> Iterator[tuple[int, Int32]]:
        """The same for the corpus. Of matches with the same number of occurrences only the longest is returned."""
        if self.store is None:
            return
        text = np.array(context.tokens[-self.max_match :], np.int64)
        match = self.store.longest(text, self.max_match)
        while match is not None:
            yield match.length, self.store.continuations(match, context.max_depth, self.max_occurrences)[0]
            match = self.store.shorter(text, match)

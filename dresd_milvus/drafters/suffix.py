"""SuffixDecoding: what followed the text's latest tokens earlier in the text itself, and in a corpus (2411.04975).

As published (section 3): of every match of the text's end, in the text and in the corpus, the continuations make a
tree whose nodes weigh their share of the occurrences, of at most four nodes a matched token; the tree with the highest
sum of weights is the draft. The corpus lies in a suffix array instead of a tree; of very many occurrences it takes some
at even distances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.drafters.hybrid.evidence import Kind, Table
from dresd_milvus.drafters.hybrid.growth import SHARES
from dresd_milvus.drafters.hybrid.running_text import RunningText
from dresd_milvus.drafters.hybrid.tree_builder import Expansion
from dresd_milvus.recycling import NOTHING
from dresd_milvus.suffixes import SuffixStore
from dresd_milvus.tree import DraftTree, Int32

LONGEST = 64
"""Tokens of a match at most, as published."""

MOST = 128
"""Occurrences looked at: of each match in the corpus, and in all of the running text (the latest)."""

NODES_PER_TOKEN = 4
"""Draft nodes at most for each token that matches: the published max_spec_factor."""


class Suffix:
    """store: the corpus, None for the running text alone."""

    name = "suffix"

    def __init__(self, store: SuffixStore | None, longest: int = LONGEST, most: int = MOST) -> None:
        self.store, self.longest, self.most = store, longest, most
        self.text, self.table, self.expansion = RunningText(), Table(), Expansion()

    def begin(self, prompt: Sequence[int]) -> None:
        self.text.begin(prompt)

    def observe(self, step: Step) -> None:
        self.text.extend(step.tokens[-len(step.new) :])

    def draft(self, context: Context) -> DraftTree:
        root, best, score = context.tokens[-1], DraftTree.root_only(context.tokens[-1], self.name), 0.0
        if context.max_nodes <= 0 or context.max_depth <= 0:
            return best
        for length, rows in (*self._in_text(context), *self._in_corpus(context)):
            self.table.clear()
            self.table.add(Kind.TEXT, rows, context.max_depth, length)
            most = min(context.max_nodes, NODES_PER_TOKEN * length)
            weights = self.expansion.grow(root, self.table, NOTHING, SHARES, most, context.max_depth)
            if weights.sum() > score:
                best, score = self.expansion.tree(most, self.name), float(weights.sum())
        return best

    def _in_text(self, context: Context) -> Iterator[tuple[int, Int32]]:
        """(length, what followed [P, depth]) of every match in the running text."""
        following, lengths = self.text.earlier(self.longest, self.most, context.max_depth)
        for length in sorted(set(lengths.tolist()), reverse=True):
            yield length, following[lengths >= length]

    def _in_corpus(self, context: Context) -> Iterator[tuple[int, Int32]]:
        """The same in the corpus; of matches that occur alike the longest, down to those too frequent to say much."""
        if self.store is None:
            return
        text = np.array(context.tokens[-self.longest :], np.int64)
        match = self.store.longest(text, self.longest)
        while match is not None:
            yield match.length, self.store.continuations(match, context.max_depth, self.most)
            match = self.store.shorter(text, match)

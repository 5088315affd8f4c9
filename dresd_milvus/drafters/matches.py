"""Exact matches of the text's end as evidence: in the running text and in a corpus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.drafters.running_text import RunningText
from dresd_milvus.drafters.suffix import LONGEST, MOST
from dresd_milvus.evidence import Evidence, Kind
from dresd_milvus.suffixes import SuffixStore

FADING = 0.9
"""An earlier occurrence in the text counts so much of the next later one."""

SHORTER = 0.5
"""e^-0.5 is what an occurrence in the text counts for each token that its match is shorter than the longest."""


class Matches:
    """Tells what followed the longest match and what followed shorter ones. store: the corpus, None for the text alone.

    The text costs a scan (a microsecond a thousand tokens), the corpus two binary searches.
    """

    name = "suffix"
    dear = False

    def __init__(self, store: SuffixStore | None, longest: int = LONGEST, most: int = MOST) -> None:
        self.store, self.longest, self.most = store, longest, most
        self.text = RunningText()

    def begin(self, prompt: Sequence[int]) -> None:
        self.text.begin(prompt)

    def observe(self, step: Step) -> None:
        self.text.extend(step.new)

    def tell(self, context: Context) -> list[Evidence]:
        return [*self._in_text(context.max_depth), *self._in_corpus(context)]

    def _in_text(self, depth: int) -> Iterator[Evidence]:
        rows, lengths = self.text.earlier(self.longest, self.most, depth)
        if len(rows):
            longest = lengths.max()
            kinds = np.where(lengths == longest, Kind.TEXT, Kind.TEXT_SHORTER).astype(np.int8)
            weights = np.exp(SHORTER * (lengths - longest)) * FADING ** np.arange(len(rows))
            yield Evidence(rows, kinds, lengths, weights)

    def _in_corpus(self, context: Context) -> Iterator[Evidence]:
        if self.store is None:
            return
        text = context.tokens[-self.longest :]
        match = self.store.longest(text, self.longest)
        for kind in (Kind.CORPUS, Kind.CORPUS_SHORTER):
            if match is not None:
                rows = self.store.continuations(match, context.max_depth, self.most)
                yield Evidence.of(kind, rows, np.full(len(rows), match.length), np.ones(len(rows)))
                match = self.store.shorter(text, match)

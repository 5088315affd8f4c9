"""Exact matches of the text's end as evidence: in the running text and in a corpus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dresd_milvus.compiled import compiled
from dresd_milvus.decoding.protocols import Context
from dresd_milvus.decoding.tree import Int32, Int64
from dresd_milvus.drafters.hybrid.evidence import Evidence, Kind, Session
from dresd_milvus.retrieval.suffix_store import SuffixStore

LONGEST = 64
"""Tokens of a match at most."""

MOST = 64
"""Occurrences that are read of each match; twice as many do not raise the accepted length (lab log)."""

FADING = 0.9
"""An earlier occurrence in the text weighs this much of the next later one."""

SHORTER = 0.5
"""An occurrence in the text weighs e^-0.5 for each token that its match is shorter than the longest."""


class Matches:
    """Gives what followed the longest match and shorter ones.

    store: the corpus, None for the running text alone. longest: tokens of a match at most. most: occurrences that are
    read of each match. The text costs a scan (a microsecond a thousand tokens), the corpus two binary searches.
    """

    name = "suffix"

    def __init__(self, store: SuffixStore | None, longest: int = LONGEST, most: int = MOST) -> None:
        self.store, self.longest, self.most = store, longest, most
        self._fading = FADING ** np.arange(most)

    def propose(self, contexts: Sequence[Context], sessions: Sequence[Session]) -> list[list[Evidence]]:
        return [self._after(np.asarray(context.tokens, np.int32), context.max_depth) for context in contexts]

    def _after(self, text: Int32, depth: int) -> list[Evidence]:
        return [*self._in_text(text, depth), *self._in_corpus(text, depth)]

    def _in_text(self, text: Int32, depth: int) -> Iterator[Evidence]:
        """All occurrences of the last token, the latest first."""
        rows, lengths, places = earlier_occurrences(text, self.longest, self.most, depth)
        if len(rows) == 0:
            return
        best = lengths.max()
        kinds = np.where(lengths == best, np.int8(Kind.TEXT), np.int8(Kind.TEXT_SHORTER))
        yield Evidence.of(kinds, rows, lengths, np.exp(SHORTER * (lengths - best)) * self._fading[: len(rows)], places)

    def _in_corpus(self, text: Int32, depth: int) -> Iterator[Evidence]:
        """The longest match, and the next shorter one that occurs more often."""
        match = self.store.longest(text, self.longest) if self.store else None
        if self.store is None or match is None:
            return
        rows, places = self.store.continuations(match, depth, self.most)
        yield Evidence.of(Kind.CORPUS, rows, match.length, places=places)
        if shorter := self.store.shorter(text, match):
            rows, places = self.store.continuations(shorter, depth, self.most)
            yield Evidence.of(Kind.CORPUS_SHORTER, rows, shorter.length, places=places)


@compiled
def earlier_occurrences(text: Int32, longest: int, most: int, depth: int) -> tuple[Int32, Int32, Int64]:
    """(following int32 [C, depth], lengths int32 [C], places int64 [C]) of the earlier occurrences of a text's last
    token, the latest first, at most `most`. Without an index: a scan takes a microsecond a thousand tokens.

    following: what came after the occurrence; where that reaches the text's end it goes on with its own beginning, as
    LZ77 does. lengths: how many tokens up to the occurrence are the same as at the text's end, at most `longest`.
    places: the positions of the tokens after it.
    """
    following, lengths = np.empty((most, depth), np.int32), np.empty(most, np.int32)
    places = np.empty(most, np.int64)
    found, last = 0, len(text) - 1
    for at in range(last - 1, -1, -1):
        if text[at] != text[last]:
            continue
        if found == most:
            break
        length = 1
        while length < longest and length <= at and text[at - length] == text[last - length]:
            length += 1
        lengths[found], places[found] = length, at + 1
        period = last - at
        for column in range(depth):
            following[found, column] = text[at + 1 + column % period]
        found += 1
    return following[:found], lengths[:found], places[:found]

"""Exact matches of the text's end as evidence: in the running text and in a corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.drafters.running_text import RunningText, earlier_in
from dresd_milvus.drafters.suffix import LONGEST
from dresd_milvus.evidence import BEST, Kind, Table
from dresd_milvus.suffixes import Ints, SuffixStore, gather, longest_match
from dresd_milvus.tree import Int32

TEXT, TEXT_SHORTER = int(Kind.TEXT), int(Kind.TEXT_SHORTER)
CORPUS, CORPUS_SHORTER = int(Kind.CORPUS), int(Kind.CORPUS_SHORTER)

MOST = 64
"""Occurrences looked at of each match; with twice as many no more is accepted (lab log)."""

NOWHERE = np.empty(0, np.int32)
"""The corpus where there is none."""

FADING = 0.9
"""An earlier occurrence in the text counts so much of the next later one."""

SHORTER = 0.5
"""e^-0.5 is what an occurrence in the text counts for each token that its match is shorter than the longest."""


class Matches:
    """Tells what followed the longest match and what followed shorter ones. store: the corpus, None for the text alone.

    The text costs a scan (a microsecond a thousand tokens), the corpus two binary searches.
    """

    name = "suffix"

    def __init__(self, store: SuffixStore | None, longest: int = LONGEST, most: int = MOST) -> None:
        self.corpus = store.arrays if store else (NOWHERE, NOWHERE, NOWHERE)
        self.longest, self.most = longest, most
        self.text = RunningText()

    def begin(self, prompt: Sequence[int]) -> None:
        self.text.begin(prompt)

    def observe(self, step: Step) -> None:
        self.text.extend(step.tokens[-len(step.new) :])

    def tell(self, context: Context, table: Table) -> int:
        into = table.reserve(3 * self.most, context.max_depth)
        how = self.longest, self.most, context.max_depth
        table.size, longest = _tell(*how, table.size, *(*self.text.held, *self.corpus, *into))
        return longest


@compiled
def _tell(
    longest: int,
    most: int,
    depth: int,
    begin: int,
    held: Int32,
    size: int,
    tokens: Ints,
    order: Ints,
    starts: Ints,
    rows: Int32,
    kinds: NDArray[np.int8],
    quality: Int32,
    weights: NDArray[np.float64],
) -> tuple[int, int]:
    """Put down from a row on what followed matches of the text's end in the text, `size` tokens of what is held, and in
    the corpus: (where the rows end, the longest match)."""
    text = held[:size]
    used = begin + earlier_in(text, longest, rows[begin : begin + most, :depth], quality[begin : begin + most])
    best = 0
    for row in range(begin, used):
        best = max(best, quality[row])
    for row in range(begin, used):
        length = quality[row]
        kinds[row] = TEXT if length == best else TEXT_SHORTER
        quality[row] = min(length, BEST - 1)
        weights[row] = np.exp(SHORTER * (length - best)) * FADING ** (row - begin)
    length, first, last = longest_match(tokens, order, starts, text[-longest:], 1)
    best = max(best, length)
    for kind in (CORPUS, CORPUS_SHORTER):
        if length == 0:
            break
        end = used + min(last - first, most)
        gather(tokens, order, first, last - first, length, rows[used:end, :depth])
        kinds[used:end], quality[used:end], weights[used:end] = kind, min(length, BEST - 1), 1.0
        used = end
        if kind == CORPUS:
            shorter = text[max(len(text) - length + 1, 0) :]
            length, first, last = longest_match(tokens, order, starts, shorter, last - first + 1)
    return used, best

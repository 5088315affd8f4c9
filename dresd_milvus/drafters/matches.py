"""Exact matches of the text's end as evidence: in the running text and in a corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.drafters.running_text import RunningText, earlier_in
from dresd_milvus.drafters.suffix import LONGEST, MOST
from dresd_milvus.evidence import BEST, Evidence, Kind, Table
from dresd_milvus.suffixes import Ints, SuffixStore, gather, longest_match
from dresd_milvus.tree import Int32

TEXT, TEXT_SHORTER = int(Kind.TEXT), int(Kind.TEXT_SHORTER)
CORPUS, CORPUS_SHORTER = int(Kind.CORPUS), int(Kind.CORPUS_SHORTER)

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
    dear = False

    def __init__(self, store: SuffixStore | None, longest: int = LONGEST, most: int = MOST) -> None:
        self.store, self.longest, self.most = store, longest, most
        self.text = RunningText()

    def begin(self, prompt: Sequence[int]) -> None:
        self.text.begin(prompt)

    def observe(self, step: Step) -> None:
        self.text.extend(step.new)

    def tell(self, context: Context, table: Table) -> int:
        into = table.room(3 * self.most, context.max_depth)
        tokens, order = (self.store.tokens, self.store.order) if self.store else (NOWHERE, NOWHERE)
        used, longest = _tell(self.text.tokens, tokens, order, self.longest, self.most, context.max_depth, *into)
        table.take(used)
        return longest


@compiled
def _tell(
    text: Int32,
    tokens: Ints,
    order: Ints,
    longest: int,
    most: int,
    depth: int,
    rows: Int32,
    kinds: NDArray[np.int8],
    quality: Int32,
    weights: NDArray[np.float64],
) -> tuple[int, int]:
    """Put down what followed matches of the text's end in the text and in the corpus: (rows, the longest match)."""
    into = Evidence(rows, kinds, quality, weights)
    used = earlier_in(text, longest, into.rows[:most, :depth], into.quality[:most])
    best = 0
    for row in range(used):
        best = max(best, into.quality[row])
    for row in range(used):
        length = into.quality[row]
        into.kinds[row] = TEXT if length == best else TEXT_SHORTER
        into.quality[row] = min(length, BEST - 1)
        into.weights[row] = np.exp(SHORTER * (length - best)) * FADING**row
    length, first, last = longest_match(tokens, order, text[-longest:], 1)
    best = max(best, length)
    for kind in (CORPUS, CORPUS_SHORTER):
        if length == 0:
            break
        end = used + min(last - first, most)
        gather(tokens, order, first, last - first, length, into.rows[used:end, :depth])
        into.kinds[used:end], into.quality[used:end], into.weights[used:end] = kind, min(length, BEST - 1), 1.0
        used = end
        if kind == CORPUS:
            shorter = text[max(len(text) - length + 1, 0) :]
            length, first, last = longest_match(tokens, order, shorter, last - first + 1)
    return used, best

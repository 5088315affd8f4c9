"""Exact matches of the text's end as evidence: in the running text and in a corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dresd_milvus.compiled import compiled
from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.drafters.running_text import RunningText
from dresd_milvus.drafters.suffix import LONGEST, MOST
from dresd_milvus.evidence import BEST, Evidence, Kind, Table
from dresd_milvus.suffixes import SuffixStore
from dresd_milvus.tree import Int32

TEXT, TEXT_SHORTER = int(Kind.TEXT), int(Kind.TEXT_SHORTER)

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
        rows, lengths = self.text.earlier(self.longest, self.most, context.max_depth)
        longest = _put(table.make_room(len(rows), context.max_depth), rows, lengths)
        if self.store is None:
            return longest
        text = np.array(context.tokens[-self.longest :], np.int64)
        match = found = self.store.longest(text, self.longest)
        for kind in (Kind.CORPUS, Kind.CORPUS_SHORTER):
            if match is not None:
                rows = self.store.continuations(match, context.max_depth, self.most)
                table.add(kind, rows, context.max_depth, match.length)
                match = self.store.shorter(text, match)
        return max(longest, found.length if found else 0)


@compiled
def _put(into: Evidence, rows: Int32, lengths: Int32) -> int:
    """Put down what followed [R, L] matches of these lengths [R] in the text, the latest first; the longest length."""
    longest = 0
    for length in lengths:
        longest = max(longest, length)
    for row in range(len(rows)):
        into.kinds[row] = TEXT if lengths[row] == longest else TEXT_SHORTER
        into.quality[row] = min(lengths[row], BEST - 1)
        into.weights[row] = np.exp(SHORTER * (lengths[row] - longest)) * FADING**row
        into.rows[row, : rows.shape[1]] = rows[row]
    return longest

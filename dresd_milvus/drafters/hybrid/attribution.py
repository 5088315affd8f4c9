"""Where accepted draft tokens are from: the text itself, the corpus, or a row of the store, with its place.

Attribution of retrieved spans is NEST's idea (2405.19325), which changes the output for it; here the text stays the
target's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dresd_milvus.decoding.tree import Int64
from dresd_milvus.drafters.hybrid.evidence import NO_PLACE, Evidence, Kind

SOURCES = ("text", "text", "corpus", "corpus", "dense", "dense", "recycled")
"""The source of evidence of each Kind, as reports and metrics name it."""


class Taken(NamedTuple):
    """A run of accepted draft tokens from one place.

    first: position of the first of them in the text, prompt included. tokens: how many they are. kind: of the evidence.
    place: see Evidence.places.
    """

    first: int
    tokens: int
    kind: Kind
    place: int

    @property
    def source(self) -> str:
        """One of SOURCES."""
        return SOURCES[self.kind]


def attribute(evidence: Evidence, accepted: Int64, first: int) -> list[Taken]:
    """Where the accepted draft tokens [n] of a step are from. first: position of the first of them in the text.

    They go to the row that agrees with most of them; of rows that agree with as many, to the first (exact matches in
    the text, then in the corpus, then dense hits). What no row agrees with was recycled.
    """
    if not len(accepted):
        return []
    width = min(len(accepted), evidence.rows.shape[1])
    agree = np.cumprod(evidence.rows[:, :width] == accepted[:width], axis=1).sum(axis=1, initial=0)
    best = int(agree.argmax()) if len(agree) else -1
    count = int(agree[best]) if len(agree) else 0
    found = [Taken(first, count, Kind(evidence.kinds[best]), int(evidence.places[best]))] if count else []
    left = len(accepted) - count
    return found + ([Taken(first + count, left, Kind.RECYCLED, NO_PLACE)] if left else [])


def count_by_source(taken: Iterable[Taken]) -> dict[str, int]:
    """Accepted draft tokens by source; sources without any are left out."""
    counts: dict[str, int] = {}
    for run in taken:
        counts[run.source] = counts.get(run.source, 0) + run.tokens
    return counts

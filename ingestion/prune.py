"""Rows that a store can do without: fewer rows, smaller indexes, and as few drafts lost as may be.

What each option costs in drafts is measured by benchmarks/pruning.py (docs/ingestion.md has its table).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.store import Rows

SIGNS = 16
"""Axes whose signs are the bucket of a key: rows of one bucket and one continuation draft the same."""


@dataclass
class Pruning:
    """every: keep every k-th position of a document. same: drop a row whose bucket and continuation were there already.
    most: rows of one first token at most. The last two know the shard that they are in, no more, so that shards stay
    independent of each other.
    """

    every: int = 1
    same: bool = False
    most: int | None = None
    _seen: set[bytes] = field(default_factory=set)
    _count: Counter[int] = field(default_factory=Counter)

    def __call__(self, rows: Rows, positions: NDArray[np.int64]) -> Rows:
        """The rows that are kept; positions [R]: of the rows in their documents."""
        keep = positions % self.every == 0
        for at in np.flatnonzero(keep).tolist() if self.same or self.most else ():
            token = int(rows.next_tokens[at, 0])
            if (self.same and self._was_there(rows, at)) or (self.most and self._count[token] >= self.most):
                keep[at] = False
            else:
                self._count[token] += 1
        if keep.all():
            return rows
        previews = [text for text, kept in zip(rows.previews or (), keep, strict=False) if kept]
        return Rows(rows.pk[keep], rows.vectors[keep], rows.next_tokens[keep], rows.origin, previews)

    def _was_there(self, rows: Rows, at: int) -> bool:
        bucket = np.packbits(rows.vectors[at, :SIGNS] > 0).tobytes()
        mark = hashlib.blake2b(bucket + rows.next_tokens[at].tobytes(), digest_size=8).digest()
        if mark in self._seen:
            return True
        self._seen.add(mark)
        return False

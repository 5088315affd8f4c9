"""Which rows a store keeps: those that were asked for, and of these the ones it cannot do without.

What each option costs in drafts is measured by benchmarks/pruning.py (docs/ingestion.md has its table).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.corpus import Encoded
from dresd_milvus.retrieval.store import Rows

SIGNS = 16
"""Axes whose signs are the bucket of a key: rows of one bucket and one continuation draft the same."""


@dataclass
class Pruning:
    """every: keep every k-th position of a document. same: drop a row whose bucket and continuation were there already.
    most: rows of one first token at most. responses_only: keep positions before an answer's token. `same` and `most`
    know the shard that they are in, no more, so that shards stay independent of each other.
    """

    every: int = 1
    same: bool = False
    most: int | None = None
    responses_only: bool = False
    _seen: set[bytes] = field(default_factory=set)
    _count: Counter[int] = field(default_factory=Counter)

    def positions(self, encoded: Encoded, first: int, stop: int) -> NDArray[np.int64]:
        """Positions [R] among first..stop - 1 of a document that may become rows, as far as is known without keys."""
        positions = np.arange(first, stop)
        if self.responses_only:
            positions = positions[encoded.answered[positions + 1]]
        return positions[positions % self.every == 0]

    def __call__(self, rows: Rows) -> Rows:
        """The rows of such positions that are kept."""
        if not (self.same or self.most):
            return rows
        keep = np.ones(len(rows), bool)
        for at in range(len(rows)):
            token = int(rows.next_tokens[at, 0])
            if (self.same and self._was_there(rows, at)) or (self.most and self._count[token] >= self.most):
                keep[at] = False
            else:
                self._count[token] += 1
        previews = [text for text, kept in zip(rows.previews or (), keep, strict=False) if kept]
        return Rows(rows.pk[keep], rows.vectors[keep], rows.next_tokens[keep], rows.origin, previews)

    def _was_there(self, rows: Rows, at: int) -> bool:
        bucket = np.packbits(rows.vectors[at, :SIGNS] > 0).tobytes()
        mark = hashlib.blake2b(bucket + rows.next_tokens[at].tobytes(), digest_size=8).digest()
        if mark in self._seen:
            return True
        self._seen.add(mark)
        return False

"""Pruning: which positions of the corpus become rows of the store.

benchmarks/pruning.py measures what each option costs in draft quality; docs/ingestion.md has the table.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.corpus import Encoded
from dresd_milvus.retrieval.store import Rows

BUCKET_AXES = 16
"""Axes of a key whose signs are its bucket. Rows of one bucket with one continuation draft the same."""


@dataclass
class Pruning:
    """The pruning of one shard, by the options of `dresd ingest run` with these names.

    keep_every: keep every k-th position of a document. drop_same: drop a row if an earlier one has its bucket and
    continuation. per_token: maximum number of rows with one first token. responses_only: keep only positions that are
    followed by a token of an answer.
    `drop_same` and `per_token` compare rows within one shard, so that shards stay independent.
    """

    keep_every: int = 1
    drop_same: bool = False
    per_token: int | None = None
    responses_only: bool = False
    _seen: set[bytes] = field(default_factory=set)
    _rows_per_token: Counter[int] = field(default_factory=Counter)

    def positions(self, encoded: Encoded, first: int, stop: int) -> NDArray[np.int64]:
        """Positions [R] in first..stop - 1 of a document that `keep_every` and `responses_only` keep."""
        positions = np.arange(first, stop)
        if self.responses_only:
            positions = positions[encoded.answered[positions + 1]]
        return positions[positions % self.keep_every == 0]

    def select(self, rows: Rows) -> Rows:
        """The rows that `drop_same` and `per_token` keep, given all rows of the shard before them."""
        if not (self.drop_same or self.per_token):
            return rows
        kept = np.array([self._keeps(rows, at) for at in range(len(rows))], bool)
        previews = [preview for preview, keep in zip(rows.previews or (), kept, strict=False) if keep]
        return Rows(rows.pk[kept], rows.vectors[kept], rows.next_tokens[kept], rows.origin, previews)

    def _keeps(self, rows: Rows, at: int) -> bool:
        token = int(rows.next_tokens[at, 0])
        if self.drop_same and self._seen_before(rows, at):
            return False
        if self.per_token and self._rows_per_token[token] >= self.per_token:
            return False
        self._rows_per_token[token] += 1
        return True

    def _seen_before(self, rows: Rows, at: int) -> bool:
        bucket = np.packbits(rows.vectors[at, :BUCKET_AXES] > 0).tobytes()
        digest = hashlib.blake2b(bucket + rows.next_tokens[at].tobytes(), digest_size=8).digest()
        if digest in self._seen:
            return True
        self._seen.add(digest)
        return False

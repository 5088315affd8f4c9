"""What is in a collection, for `dresd inspect`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from dresd_milvus.milvus import MilvusStore
from dresd_milvus.store import Rows


def inspect_store(
    store: MilvusStore, samples: int = 5, progress: Callable[[int], None] = lambda rows: None
) -> dict[str, Any]:
    """{rows, checksum, index, manifest, sample}: every row is read for the checksum."""
    checksum = Checksum()
    for rows in store.scan():
        checksum.add(rows)
        progress(len(rows))
    return {
        "rows": store.count(),
        "checksum": checksum.hexdigest(),
        "index": store.index(),
        "manifest": asdict(store.manifest),
        "sample": store.sample(samples),
    }


class Checksum:
    """A checksum over primary keys and continuations that does not depend on the order of the rows.

    The sum modulo 2^64 of a BLAKE2b hash of every row (pk as int64, tokens as int32, little-endian).
    """

    def __init__(self) -> None:
        self._sum = 0

    def add(self, rows: Rows) -> None:
        pks = rows.pk.astype("<i8").tobytes()
        tokens = rows.next_tokens.astype("<i4")
        for at, row in enumerate(tokens):
            digest = hashlib.blake2b(pks[8 * at : 8 * at + 8] + row.tobytes(), digest_size=8)
            self._sum = (self._sum + int.from_bytes(digest.digest(), "little")) % 2**64

    def hexdigest(self) -> str:
        return f"{self._sum:016x}"

"""Documents that are there already, word for word or nearly."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from dresd_milvus.corpus.documents import Document

Dedup = Literal["none", "exact", "near"]

NEAR, PERMUTATIONS, SHINGLE = 0.8, 128, 5
"""Documents are nearly the same when the sets of their runs of SHINGLE words overlap (Jaccard) by NEAR or more, as
MinHash with so many permutations sees it (Broder 1997; Lee et al. 2022, who take 0.8 as well)."""


class Duplicates:
    """Remembers documents: 8 bytes of each for 'exact', a MinHash of each besides for 'near'."""

    def __init__(self, mode: Dedup) -> None:
        self.mode = mode
        self._hashes: set[int] = set()
        self._near: Any = None
        if mode == "near":
            from datasketch import MinHashLSH

            self._near = MinHashLSH(threshold=NEAR, num_perm=PERMUTATIONS)

    def seen(self, document: Document) -> bool:
        """Whether it is like one before; it is remembered if not."""
        if self.mode == "none":
            return False
        text = "\0".join(document.turns)
        exact = int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "little")
        if exact in self._hashes:
            return True
        self._hashes.add(exact)
        return self._near is not None and self._seen_near(text, str(exact))

    def _seen_near(self, text: str, name: str) -> bool:
        from datasketch import MinHash

        words = text.split()
        runs = {" ".join(words[at : at + SHINGLE]) for at in range(max(len(words) - SHINGLE + 1, 1))}
        minhash = MinHash(num_perm=PERMUTATIONS)
        minhash.update_batch([run.encode(errors="replace") for run in runs])
        if self._near.query(minhash):
            return True
        self._near.insert(name, minhash)
        return False

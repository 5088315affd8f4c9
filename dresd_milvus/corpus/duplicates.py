"""Duplicate documents: equal texts, and nearly equal ones."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from dresd_milvus.corpus.documents import Document

Dedup = Literal["none", "exact", "near"]

SIMILARITY = 0.8
"""Documents are near duplicates if the Jaccard similarity of their sets of shingles is at least this, as estimated by
MinHash (Broder 1997; Lee et al. 2022 use 0.8 too)."""

PERMUTATIONS = 128
"""Permutations of MinHash."""

SHINGLE_WORDS = 5
"""Words in a row that make a shingle."""


class DuplicateFilter:
    """Recognises documents that it has seen. mode: 'none', 'exact' (equal texts) or 'near' (also nearly equal texts).

    It keeps some 80 bytes a document, with 'near' a MinHash too.
    """

    def __init__(self, mode: Dedup) -> None:
        self.mode = mode
        self._hashes: set[int] = set()
        self._near: Any = None
        if mode == "near":
            from datasketch import MinHashLSH

            self._near = MinHashLSH(threshold=SIMILARITY, num_perm=PERMUTATIONS)

    def seen(self, document: Document) -> bool:
        """Whether a document is a duplicate of an earlier one; otherwise it is stored."""
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
        runs = {" ".join(words[at : at + SHINGLE_WORDS]) for at in range(max(len(words) - SHINGLE_WORDS + 1, 1))}
        minhash = MinHash(num_perm=PERMUTATIONS)
        minhash.update_batch([run.encode(errors="replace") for run in runs])
        if self._near.query(minhash):
            return True
        self._near.insert(name, minhash)
        return False

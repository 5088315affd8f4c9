"""An exact index of a corpus: the suffixes of its token stream in sorted order, to find where the same was said before.

REST (2311.08252, section 3.1) keeps such a suffix array over a corpus. Here token ids are 32 bits wide, so that any
vocabulary fits, and an answer depends on nothing but the corpus: ties keep the order of the suffixes themselves.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import MismatchError, StoreError
from dresd_milvus.store import PAD

WORD = np.dtype(">u4")
"""On disk a token is its id + 1, most significant byte first: then bytes sort as the tokens do. 0 ends a document."""


class Match(NamedTuple):
    """Where the last `length` tokens of a text occur in the corpus: suffixes first <= i < last of the sorted order."""

    length: int
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first


class SuffixStore:
    """Tokens and their sorted suffixes, memory-mapped from a folder: 8 bytes a token (12 from 2^31 tokens on)."""

    def __init__(self, folder: Path) -> None:
        """Open a store; raises StoreError when there is none or it is damaged."""
        try:
            self.about: dict[str, Any] = json.loads((folder / "suffixes.json").read_text())
            with (folder / "tokens.bin").open("rb") as file:
                self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._tokens = np.frombuffer(self._text, WORD)
            self._order = np.load(folder / "order.npy", mmap_mode="r")
            whole = len(self._tokens) == len(self._order) == self.about["tokens"]
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise StoreError(
                f"there is no suffix store in {folder} ({error}); ingest with --also rest, or say where it is "
                "with --suffixes"
            ) from error
        if not whole:
            raise StoreError(f"the suffix store in {folder} is damaged: its files do not belong together; ingest again")
        self._ranks = memoryview(self._order)

    def __len__(self) -> int:
        """Tokens, one for the end of every document among them."""
        return len(self._order)

    @property
    def nbytes(self) -> int:
        return self._tokens.nbytes + self._order.nbytes

    @classmethod
    def build(cls, folder: Path, documents: Iterable[NDArray[np.int32]], **about: Any) -> SuffixStore:
        """Sort the suffixes of these documents (int32 [T] each) into a folder, whole or not at all.

        about: what the store says of itself, such as its tokenizer. Needs about 25 bytes of memory a token.
        Raises StoreError when there are no documents.
        """
        from pydivsufsort import divsufsort

        end = np.zeros(1, np.uint32)
        parts = [part for ids in documents for part in (ids.astype(np.uint32) + 1, end)]
        if not parts:
            raise StoreError("there are no documents to build a suffix store of")
        text = np.concatenate(parts).astype(WORD)
        del parts
        order = divsufsort(text.view(np.uint8))
        order = order[order % WORD.itemsize == 0] // WORD.itemsize  # the suffixes that begin where a token does
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        try:
            part.mkdir(parents=True)
            text.tofile(part / "tokens.bin")
            np.save(part / "order.npy", order.astype(np.int32 if len(text) < 2**31 else np.int64))
            (part / "suffixes.json").write_text(json.dumps({"tokens": len(text), **about}, indent=2) + "\n")
            for path in part.iterdir():
                _sync(path)
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return cls(folder)

    def require(self, tokenizer_hash: str) -> SuffixStore:
        """Itself; MismatchError when its tokens are another tokenizer's."""
        if self.about.get("tokenizer") != tokenizer_hash:
            raise MismatchError(
                f"the suffix store holds tokens of another tokenizer ({self.about.get('tokenizer')}, the model's is "
                f"{tokenizer_hash}); use the model that it was built for, or ingest again"
            )
        return self

    def longest(self, text: Sequence[int], longest: int) -> Match | None:
        """The longest match of the text's end, of at most `longest` tokens; None when not even the last token occurs.

        O(log(longest) log(T)): what has a match has a match for all that is shorter.
        """
        best: Match | None = None
        shorter, high = 0, min(longest, len(text))  # a match of `shorter` is known (0: trivially), none above `high`
        tried = high
        while shorter < high:
            if found := self.match(text, tried):
                best, shorter = found, tried
            else:
                high = tried - 1
            tried = (shorter + high + 1) // 2
        return best

    def match(self, text: Sequence[int], length: int) -> Match | None:
        """Where the last `length` tokens (at least 1) occur; None when they do not."""
        key = (np.asarray(text[-length:], np.int64) + 1).astype(WORD).tobytes()
        at = self._reader(len(key))
        first = bisect_left(self._ranks, key, key=at)
        if first == len(self._ranks) or at(self._ranks[first]) != key:
            return None
        return Match(length, first, bisect_right(self._ranks, key, lo=first, key=at))

    def continuations(self, match: Match, depth: int, most: int) -> NDArray[np.int32]:
        """int32 [P, depth], P <= most: what followed, padded with -1 past a document's end, in sorted order.

        Of more occurrences, `most` are taken at even distances: as they are sorted by what follows, each continuation
        is taken about as often as its share.
        """
        count = len(match)
        picked = np.arange(count) if count <= most else np.arange(most) * count // most
        starts = np.asarray(self._order[match.first + picked], np.int64) + match.length
        places = np.minimum(starts[:, None] + np.arange(depth), len(self._tokens) - 1)
        found = self._tokens[places].astype(np.int32) - 1
        found[np.logical_or.accumulate(found == PAD, axis=1)] = PAD
        return found

    def _reader(self, size: int) -> Callable[[int], bytes]:
        text, word = self._text, WORD.itemsize
        return lambda place: text[word * place : word * place + size]


def _sync(path: Path) -> None:
    """Have a file on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())

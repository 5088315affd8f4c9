"""A suffix array of a corpus: finds every place where the last tokens of a text occur, and the tokens that follow.

REST (2311.08252, section 3.1) drafts from such an array. Here token ids have 32 bits, which is enough for any
vocabulary, and matches come in the order of the suffixes, so that an answer depends on the corpus only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.errors import DamagedFileError, MismatchError, StoreError
from dresd_milvus.files.atomic import atomic_folder, write_json
from dresd_milvus.files.digests import verify_digests, write_digests
from dresd_milvus.retrieval.store import PAD

WORD = np.dtype(">u4")
"""Tokens are sorted as bytes: id + 1, most significant byte first, so that bytes sort like ids. 0 ends a document."""

INDEXED = 2**18
"""Token ids below this one have an entry of their own in SuffixStore.starts."""

ARRAYS = ("tokens", "order", "starts", "ends", "of_document")
"""Its files, one for each array."""

Ints = NDArray[np.integer[Any]]


class Match(NamedTuple):
    """The places in a corpus where the last `length` tokens of a text occur: the sorted suffixes first <= i < last."""

    length: int
    first: int
    last: int

    @property
    def occurrences(self) -> int:
        """Number of places."""
        return self.last - self.first


class SuffixStore:
    """A suffix array, memory-mapped from a folder: 8 bytes for each token (12 from 2^31 tokens on).

    tokens: int32 [T], the documents, each with -1 after it. order: int32 or int64 [T], positions of the suffixes in
    sorted order. starts: int64 [V + 1], index in `order` of the first suffix that begins with token 0, 1, ... (INDEXED:
    with that token or a larger one). A search begins there, which halves its steps. ends: int64 [D], the position of
    the end of every document. of_document: int32 [D], the number of its origin. about: what `build` was given, and
    `origins`, the names of the documents' origins; stores of earlier versions do not know them.
    """

    def __init__(self, folder: Path) -> None:
        """Open a suffix store; StoreError when it is missing or damaged."""
        try:
            self.about: dict[str, Any] = json.loads((folder / "suffixes.json").read_text())
            verify_digests(folder, required="origins" in self.about)  # those of earlier versions have none
            self.tokens = np.asarray(np.load(folder / "tokens.npy", mmap_mode="r"))
            self.order = np.asarray(np.load(folder / "order.npy", mmap_mode="r"))
            self.starts = np.load(folder / "starts.npy")
            self.ends, self.of_document = np.empty(0, np.int64), np.empty(0, np.int32)
            if "origins" in self.about:
                self.ends, self.of_document = np.load(folder / "ends.npy"), np.load(folder / "of_document.npy")
            complete = len(self.tokens) == len(self.order) == self.about["tokens"] == self.starts[-1]
        except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError) as error:
            raise StoreError(
                f"there is no suffix store in {folder} ({error}); ingest with --also rest, or say where it is "
                "with --suffixes"
            ) from error
        except DamagedFileError as error:
            raise StoreError(f"the suffix store in {folder} is damaged ({error}); ingest again") from error
        if not complete:
            raise StoreError(f"the suffix store in {folder} is damaged: its files do not fit each other; ingest again")

    def __len__(self) -> int:
        """Number of tokens, including one for the end of every document."""
        return len(self.order)

    @property
    def arrays(self) -> tuple[Ints, Ints, Ints]:
        """(tokens, order, starts)."""
        return self.tokens, self.order, self.starts

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(part.nbytes for part in self.arrays)

    @classmethod
    def build(
        cls, folder: Path, documents: Iterable[NDArray[np.int32]], origins: Sequence[str] | None = None, **about: Any
    ) -> SuffixStore:
        """Build a suffix store of documents (int32 [T] each) in a folder, which appears only when it is complete.

        origins: the name of the origin of every document [D]; None for one without a name. about: facts to keep in the
        store, such as its tokenizer. Needs about 25 bytes of memory for each token.
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
        order = order[order % WORD.itemsize == 0] // WORD.itemsize  # suffixes that begin with the first byte of a token
        with atomic_folder(folder, replace=True) as part:
            np.save(part / "tokens.npy", text.astype(np.int64).astype(np.int32) - 1)
            np.save(part / "order.npy", order.astype(np.int32 if len(text) < 2**31 else np.int64))
            np.save(part / "starts.npy", np.cumsum(np.bincount(np.minimum(text, INDEXED + 1).astype(np.int64))))
            ends = np.flatnonzero(text == 0)
            names = list(dict.fromkeys(origins or [""]))
            numbers = [names.index(name) for name in origins or [""] * len(ends)]
            np.save(part / "ends.npy", ends)
            np.save(part / "of_document.npy", np.array(numbers, np.int32))
            write_json(part / "suffixes.json", {"tokens": len(text), "origins": names, **about})
            write_digests(part, ["suffixes.json", *(f"{name}.npy" for name in ARRAYS)])
        return cls(folder)

    def require(self, tokenizer_hash: str) -> SuffixStore:
        """The store itself; MismatchError when it was built with another tokenizer."""
        if self.about.get("tokenizer") != tokenizer_hash:
            raise MismatchError(
                f"the suffix store holds tokens of another tokenizer ({self.about.get('tokenizer')}, the model's is "
                f"{tokenizer_hash}); use the model that it was built for, or ingest again"
            )
        return self

    def of_origin(self, origin: str) -> SuffixStore:
        """The same documents, of which only those of one origin are searched: 4 bytes of memory for each token of them
        (8 from 2^31 on). Raises StoreError for a store that does not know origins."""
        if "origins" not in self.about:
            raise StoreError("the suffix store is of an earlier version, which kept no names of sources; ingest again")
        part = copy(self)
        wanted = np.array([known == origin for known in self.about["origins"]])[self.of_document]
        part.order = self.order[wanted[np.searchsorted(self.ends, self.order)]]
        firsts = np.minimum(self.tokens[part.order] + 1, INDEXED + 1)
        part.starts = np.cumsum(np.bincount(firsts, minlength=len(self.starts)))
        return part

    def locate(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(documents [P], positions [P]) of positions [P] in the whole store: numbers of documents from 0 on."""
        documents = np.searchsorted(self.ends, places)
        return documents, places - np.concatenate(([0], self.ends + 1))[documents]

    def longest(self, text: Sequence[int] | Ints, longest: int) -> Match | None:
        """The longest match of the text's end, at most `longest` tokens; None when even the last token does not occur.

        Takes O(log(longest) log(T)) comparisons: where the end of a text matches, every shorter end does too.
        """
        return self._match(text, longest, 1)

    def shorter(self, text: Sequence[int] | Ints, match: Match) -> Match | None:
        """The longest shorter match that has more occurrences than `match`; None when there is none."""
        return self._match(text, match.length - 1, match.occurrences + 1)

    def _match(self, text: Sequence[int] | Ints, longest: int, least: int) -> Match | None:
        """The longest match of at most `longest` tokens with at least `least` occurrences."""
        key = np.asarray(text[-longest:] if longest else [], np.int64)
        length, first, last = longest_match(*self.arrays, key, least)
        return Match(length, first, last) if length else None

    def continuations(self, match: Match, depth: int, most: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """(tokens int32 [P, depth], places int64 [P]) after a match, P <= most: the tokens, padded with -1 after a
        document's end, and the positions of the first of them.

        Of more than `most` places, which are sorted by the tokens that follow, it takes every n-th, so that each
        continuation keeps about its share.
        """
        count = min(match.occurrences, most)
        places = self.order[match.first + np.arange(count) * match.occurrences // count].astype(np.int64) + match.length
        found = np.empty((count, depth), np.int32)
        gather(self.tokens, places, found)
        return found, places


@compiled
def _sign(tokens: Ints, place: int, key: Ints) -> int:
    """Compare the suffix at a place with a key: 0 when it begins with the key, 1 when it is greater, -1 when less."""
    for at in range(len(key)):
        token = tokens[place + at] if place + at < len(tokens) else PAD
        if token != key[at]:
            return 1 if token > key[at] else -1
    return 0


@compiled
def _bound(tokens: Ints, order: Ints, key: Ints, low: int, high: int, after: bool) -> int:
    """Binary search in order[low:high]: index of the first suffix that begins with the key or is greater.

    after: of the first that is greater and does not begin with the key.
    """
    while low < high:
        middle = (low + high) // 2
        sign = _sign(tokens, order[middle], key)
        if sign < 0 or (sign == 0 and after):
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _occurrences(tokens: Ints, order: Ints, starts: Ints, key: Ints) -> tuple[int, int]:
    """(first, last) of the sorted suffixes first <= i < last that begin with a key [L], L > 0."""
    token = min(key[0], INDEXED)
    if not 0 <= token < len(starts) - 1:
        return 0, 0
    high = starts[token + 1]
    first = _bound(tokens, order, key, starts[token], high, False)
    reach = 1  # most keys have few occurrences: the end is near, and is sought in doubling steps
    while first + reach <= high and _sign(tokens, order[first + reach - 1], key) == 0:
        reach *= 2
    return first, _bound(tokens, order, key, first + reach // 2, min(first + reach - 1, high), True)


@compiled
def longest_match(tokens: Ints, order: Ints, starts: Ints, key: Ints, least: int) -> tuple[int, int, int]:
    """(length, first, last) of the longest end of a key [L] with at least `least` occurrences; zeros for none."""
    length, begin, end, high = 0, 0, 0, len(key)
    while length < high:
        # Most matches are short: double the length until it is too long, then halve the interval.
        tried = min(max(2 * length, 1), high) if high == len(key) else (length + high + 1) // 2
        first, last = _occurrences(tokens, order, starts, key[len(key) - tried :])
        if last - first >= least:
            length, begin, end = tried, first, last
        else:
            high = tried - 1
    return length, begin, end


@compiled
def gather(tokens: Ints, places: Ints, into: Ints) -> None:
    """Fill `into` [P, depth] with the tokens from P places on, padded with -1 after a document's end."""
    for row in range(len(into)):
        place, ended = places[row], False
        for depth in range(into.shape[1]):
            token = PAD if ended or place + depth >= len(tokens) else tokens[place + depth]
            ended = token == PAD
            into[row, depth] = token

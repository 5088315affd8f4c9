"""An exact index of a corpus: the suffixes of its token stream in sorted order, to find where the same was said before.

REST (2311.08252, section 3.1) keeps such a suffix array over a corpus. Here token ids are 32 bits wide, so that any
vocabulary fits, and an answer depends on nothing but the corpus: ties keep the order of the suffixes themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.errors import MismatchError, StoreError
from dresd_milvus.files.atomic import atomic_folder, write_json
from dresd_milvus.retrieval.store import PAD

WORD = np.dtype(">u4")
"""What is sorted is a token's id + 1, most significant byte first: then bytes sort as tokens do. 0 ends a document."""

INDEXED = 2**18
"""Tokens below it have their suffixes found at once."""

Ints = NDArray[np.integer[Any]]


class Match(NamedTuple):
    """Where the last `length` tokens of a text occur in the corpus: suffixes first <= i < last of the sorted order."""

    length: int
    first: int
    last: int

    @property
    def occurrences(self) -> int:
        """How often it occurs."""
        return self.last - self.first


class SuffixStore:
    """Tokens and their sorted suffixes, memory-mapped from a folder: 8 bytes a token (12 from 2^31 tokens on).

    tokens: int32 [T]. order: where the suffixes begin, sorted, [T]. starts: int64 [V + 1], where in the order those
    begin whose first token is 0, 1, ... (INDEXED: that or more): every search begins there, which spares it half of
    what it would look at.
    """

    def __init__(self, folder: Path) -> None:
        """Open a store; raises StoreError when there is none or it is damaged."""
        try:
            self.about: dict[str, Any] = json.loads((folder / "suffixes.json").read_text())
            self.tokens = np.asarray(np.load(folder / "tokens.npy", mmap_mode="r"))
            self.order = np.asarray(np.load(folder / "order.npy", mmap_mode="r"))
            self.starts = np.load(folder / "starts.npy")
            whole = len(self.tokens) == len(self.order) == self.about["tokens"] == self.starts[-1]
        except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError) as error:
            raise StoreError(
                f"there is no suffix store in {folder} ({error}); ingest with --also rest, or say where it is "
                "with --suffixes"
            ) from error
        if not whole:
            raise StoreError(f"the suffix store in {folder} is damaged: its files do not belong together; ingest again")

    def __len__(self) -> int:
        """Tokens, one for the end of every document among them."""
        return len(self.order)

    @property
    def arrays(self) -> tuple[Ints, Ints, Ints]:
        """Tokens, order and starts."""
        return self.tokens, self.order, self.starts

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(part.nbytes for part in self.arrays)

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
        with atomic_folder(folder, replace=True) as part:
            np.save(part / "tokens.npy", text.astype(np.int64).astype(np.int32) - 1)
            np.save(part / "order.npy", order.astype(np.int32 if len(text) < 2**31 else np.int64))
            np.save(part / "starts.npy", np.cumsum(np.bincount(np.minimum(text, INDEXED + 1).astype(np.int64))))
            write_json(part / "suffixes.json", {"tokens": len(text), **about})
        return cls(folder)

    def require(self, tokenizer_hash: str) -> SuffixStore:
        """Itself; MismatchError when its tokens are another tokenizer's."""
        if self.about.get("tokenizer") != tokenizer_hash:
            raise MismatchError(
                f"the suffix store holds tokens of another tokenizer ({self.about.get('tokenizer')}, the model's is "
                f"{tokenizer_hash}); use the model that it was built for, or ingest again"
            )
        return self

    def longest(self, text: Sequence[int] | Ints, longest: int) -> Match | None:
        """The longest match of the text's end, of at most `longest` tokens; None when not even the last token occurs.

        O(log(longest) log(T)): what has a match has a match for all that is shorter.
        """
        return self._match(text, longest, 1)

    def shorter(self, text: Sequence[int] | Ints, match: Match) -> Match | None:
        """The longest of the shorter matches of the text's end that occur more often; None when there is none."""
        return self._match(text, match.length - 1, match.occurrences + 1)

    def _match(self, text: Sequence[int] | Ints, longest: int, least: int) -> Match | None:
        """The longest match, of at most `longest` tokens, that occurs at least `least` times."""
        key = np.asarray(text[-longest:] if longest else [], np.int64)
        length, first, last = longest_match(*self.arrays, key, least)
        return Match(length, first, last) if length else None

    def continuations(self, match: Match, depth: int, most: int) -> NDArray[np.int32]:
        """int32 [P, depth], P <= most: what followed, padded with -1 past a document's end, in sorted order.

        Of more occurrences, `most` are taken at even distances: as they are sorted by what follows, each continuation
        is taken about as often as its share.
        """
        found = np.empty((min(match.occurrences, most), depth), np.int32)
        gather(self.tokens, self.order, match.first, match.occurrences, match.length, found)
        return found


@compiled
def _sign(tokens: Ints, place: int, key: Ints) -> int:
    """Of a suffix: 0 when it begins with the key, 1 and -1 when it is greater or less."""
    for at in range(len(key)):
        token = tokens[place + at] if place + at < len(tokens) else PAD
        if token != key[at]:
            return 1 if token > key[at] else -1
    return 0


@compiled
def _bound(tokens: Ints, order: Ints, key: Ints, low: int, high: int, after: bool) -> int:
    """Where in order[low:high] the suffixes begin that are not less than the key, or with `after`, that are greater
    than all that begin with it."""
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
    """Which of the sorted suffixes begin with a key [L], L > 0: first and last + 1."""
    token = min(key[0], INDEXED)
    if not 0 <= token < len(starts) - 1:
        return 0, 0
    high = starts[token + 1]
    first = _bound(tokens, order, key, starts[token], high, False)
    reach = 1  # most keys occur a few times, so the end is looked for from the first on, ever further away
    while first + reach <= high and _sign(tokens, order[first + reach - 1], key) == 0:
        reach *= 2
    return first, _bound(tokens, order, key, first + reach // 2, min(first + reach - 1, high), True)


@compiled
def longest_match(tokens: Ints, order: Ints, starts: Ints, key: Ints, least: int) -> tuple[int, int, int]:
    """(length, first, last) of the longest end of the key [L] that occurs at least so many times; zeros for none."""
    length, begin, end, high = 0, 0, 0, len(key)
    while length < high:
        # Most matches are short: twice as long each time, until one is too long; from there on by halves.
        tried = min(max(2 * length, 1), high) if high == len(key) else (length + high + 1) // 2
        first, last = _occurrences(tokens, order, starts, key[len(key) - tried :])
        if last - first >= least:
            length, begin, end = tried, first, last
        else:
            high = tried - 1
    return length, begin, end


@compiled
def gather(tokens: Ints, order: Ints, first: int, count: int, length: int, into: Ints) -> None:
    """Fill into [P, depth] with what follows P of the `count` matches from `first` on, at even distances."""
    for row in range(len(into)):
        place = order[first + row * count // len(into)] + length
        ended = False
        for depth in range(into.shape[1]):
            token = PAD if ended or place + depth >= len(tokens) else tokens[place + depth]
            ended = token == PAD
            into[row, depth] = token

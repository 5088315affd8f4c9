"""Search over keys of 16 bits in two planes, exactly: the high bytes are scanned, the low ones settle what is left.

What a search costs is reading keys that the model's weights have driven out of the processor's caches. High bytes are
half of them, and leave few rows in doubt.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.retrieval.store import NO_ROW

BLOCK = 64
"""Rows that a search passes over together where none of them is good enough."""

ALL = -1
"""No origin: the rows of all origins are searched."""

ANY = np.empty(0, np.int64)
"""No first tokens: all rows are searched."""

FINEST = 32767
"""What a row's largest entry is in its keys."""


class Keys(NamedTuple):
    """Key [r, i] is scale[r] * (256 * high[r, i] + low[r, i]).

    high: int8 [R, d]; low: uint8 [R, d]; scale: float32 [R].
    """

    high: NDArray[np.int8]
    low: NDArray[np.uint8]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: NDArray[np.floating]) -> Keys:
        """The nearest to vectors [R, d]: each entry off by at most a 65,534th of its row's largest."""
        scale = np.maximum(np.abs(vectors).max(axis=1, initial=0), np.finfo(np.float32).tiny) / FINEST
        fixed = np.rint(vectors / scale[:, None]).astype(np.int16)
        return cls((fixed >> 8).astype(np.int8), (fixed & 255).astype(np.uint8), scale.astype(np.float32))

    def vectors(self) -> NDArray[np.float32]:
        """float32 [R, d]."""
        return (256 * self.high.astype(np.float32) + self.low) * self.scale[:, None]


@compiled
def nearest(
    high: NDArray[np.int8],
    low: NDArray[np.uint8],
    scale: NDArray[np.float32],
    origins: NDArray[np.int32],
    origin: int,
    starts: NDArray[np.int64],
    queries: NDArray[np.float32],
    tokens: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(scores [Q, k], row numbers [Q, k], -1 for none) of queries [Q, d], each among the rows that begin with its token
    [Q], of one origin or of ALL; without tokens among all rows."""
    scores = np.full((len(queries), k), np.float32(-np.inf))
    found = np.full((len(queries), k), np.int64(NO_ROW))
    for index in range(len(queries)):
        start, end = 0, len(high)
        if len(tokens):
            token = tokens[index]
            known = 0 <= token < len(starts) - 1
            start, end = (starts[token], starts[token + 1]) if known else (0, 0)
        if origin != ALL:
            group = origins[start:end]
            start, end = start + np.searchsorted(group, origin), start + np.searchsorted(group, origin, "right")
        if end > start and k > 0:
            _search_group(high, low, scale, start, end, queries[index], scores[index], found[index])
    return scores, found


@compiled(fastmath=True)
def _search_group(
    high: NDArray[np.int8],
    low: NDArray[np.uint8],
    scale: NDArray[np.float32],
    start: int,
    end: int,
    query: NDArray[np.float32],
    scores: NDArray[np.float32],
    into: NDArray[np.int64],
) -> None:
    """Put the rows of [start, end) that are most like a query [d] into scores [K] and into [K], the best first.

    A row's high bytes say what it scores, but for an error with a bound. What with all of its error falls short of the
    K-th best without its own is none of the K best.
    """
    dim, most, rows = len(query), len(scores), end - start
    above, least = _bounds(high, scale, start, end, query, most)
    order = np.empty(most, np.int64)
    for begin in range(0, rows, BLOCK):
        if not _reaches(above[begin : begin + BLOCK], least):
            continue
        for row in range(begin, min(begin + BLOCK, rows)):
            if above[row] >= least:
                score = np.float32(0)
                for at in range(dim):
                    score += query[at] * (np.float32(256) * high[start + row, at] + low[start + row, at])
                _insert(scale[start + row] * score, row, scores, order)
    for place in range(min(rows, most)):
        into[place] = start + order[place]


@compiled(fastmath=True)
def _bounds(
    high: NDArray[np.int8], scale: NDArray[np.float32], start: int, end: int, query: NDArray[np.float32], most: int
) -> tuple[NDArray[np.float32], float]:
    """By their high bytes, of the rows of [start, end): (what each scores at most, float32 [R]; what the K-th best of
    them scores at least, -inf for fewer). Most of a search's time goes here."""
    fixed, step, around, error = _fixed(query)
    above, below = np.empty(end - start, np.float32), np.empty(BLOCK, np.float32)
    lower, order = np.full(most, -np.inf, np.float32), np.empty(most, np.int64)
    for begin in range(start, end, BLOCK):
        block, of_ones = high[begin : min(begin + BLOCK, end)], scale[begin:end]
        highest = above[begin - start : end - start]
        for row in range(len(block)):  # of slices, for there no index can be negative, which is not looked at then
            product = np.int32(0)
            for at in range(len(fixed)):  # numba would take 64 bits, for twice as long
                product = np.int32(product + np.int32(block[row, at]) * np.int32(fixed[at]))
            about = step * np.float32(product) + around
            below[row], highest[row] = of_ones[row] * (about - error), of_ones[row] * (about + error)
        if _reaches(below[: len(block)], lower[-1]):
            for row in range(len(block)):
                _insert(below[row], row, lower, order)
    return above, lower[-1]


@compiled
def _fixed(query: NDArray[np.float32]) -> tuple[NDArray[np.int16], np.float32, np.float32, np.float32]:
    """A query [d] in whole numbers, of which products with high bytes sum to less than 2^31; and what makes scores of
    these sums, of rows of scale 1: a factor, the mean of what low bytes add, and how far off that may be."""
    dim, largest, total, mean = len(query), np.float32(0), np.float32(0), np.float32(0)
    for at in range(dim):
        largest = max(largest, abs(query[at]))
        total += abs(query[at])
        mean += query[at]
    step = max(largest, np.float32(1e-30)) / min(FINEST, (2**31 - 1) // (128 * dim))
    fixed = np.empty(dim, np.int16)
    for at in range(dim):
        fixed[at] = round(query[at] / step)
    error = 128 * total + step / 2 * (FINEST + 1) * dim  # of the low bytes, of the query
    return fixed, np.float32(256 * step), np.float32(128 * mean), np.float32(error)


@compiled
def _reaches(scores: NDArray[np.float32], least: float) -> bool:
    """Whether any of a few scores is as high: counted, not searched for, so that many are compared at a time."""
    many = 0
    for at in range(len(scores)):
        many += scores[at] >= least
    return many > 0


@compiled
def _insert(score: float, row: int, scores: NDArray[np.float32], order: NDArray[np.int64]) -> None:
    """Into the best scores [K], falling, -inf where there is none yet, and their rows, if it is among them."""
    place = len(scores) - 1
    if place < 0 or score <= scores[place]:
        return
    while place > 0 and scores[place - 1] < score:
        scores[place], order[place] = scores[place - 1], order[place - 1]
        place -= 1
    scores[place], order[place] = score, row

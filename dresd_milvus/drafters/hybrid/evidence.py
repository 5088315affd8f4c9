"""What the sources of a draft say, in one form: continuations of the text, and how good each of them is."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.tree import Int32

Floats = NDArray[np.float64]


class Kind(IntEnum):
    """Where a continuation comes from; each kind is calibrated apart."""

    TEXT = 0
    """the running text, after the longest match of its end"""
    TEXT_SHORTER = 1
    """the running text, after shorter matches"""
    CORPUS = 2
    """the corpus, after the longest match"""
    CORPUS_SHORTER = 3
    """the corpus, after the next shorter match that occurs more often"""
    DENSE = 4
    """the rows of the store with the nearest keys"""
    LATE = 5
    """rows found for an earlier token of the text, and right ever since"""
    RECYCLED = 6
    """what the target itself held likely when it last saw the token"""


KINDS = len(Kind)

LEVELS = 16
"""Grades of evidence of one kind."""

BEST = 128
"""Qualities are below it."""

DEEPEST = 24
"""What lies deeper is graded as if it lay here."""

LENGTHS = np.array([1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 28, 36, 48, 64])
"""Lengths of a match up to which grades 0, 1, 2 ... go."""


class Evidence(NamedTuple):
    """Continuations of one text.

    rows: int32 [R, L], tokens after the root, ended by -1 or by the row's end. kinds: int8 [R]. quality: int32 [R],
    from 0 to 127: tokens that match, or tenths of similarity above 0.4. weights: float64 [R], within a kind, any scale.
    """

    rows: Int32
    kinds: NDArray[np.int8]
    quality: Int32
    weights: Floats

    @classmethod
    def room(cls, rows: int, depth: int) -> Evidence:
        """To be filled."""
        quality, weights = np.empty(rows, np.int32), np.empty(rows)
        return cls(np.empty((rows, depth), np.int32), np.empty(rows, np.int8), quality, weights)


class Table:
    """Where the sources of one draft put what they know; used again for the next, so that a step allocates nothing.

    whole: room for rows, of which `size` were put down.
    """

    def __init__(self) -> None:
        self.whole, self.size = Evidence.room(512, 64), 0

    def clear(self) -> None:
        self.size = 0

    def add(self, kind: Kind, rows: Int32, depth: int, quality: int | Int32, weights: float | Floats = 1.0) -> None:
        """Rows [R, L] of one kind, to this depth; quality and weights: one for all of them or of each, [R]."""
        into, new = self.reserve(len(rows), depth), slice(self.size, self.size + len(rows))
        rows = rows[:, :depth]
        into.rows[new, : rows.shape[1]], into.rows[new, rows.shape[1] : depth] = rows, -1
        into.kinds[new], into.quality[new], into.weights[new] = kind, np.minimum(quality, BEST - 1), weights
        self.size = new.stop

    def reserve(self, rows: int, depth: int) -> Evidence:
        """All of the table, with room for so many more rows of at least this depth behind those that were put down;
        what rows hold beyond the depth is not looked at."""
        begin, old = self.size, self.whole
        have, width = old.rows.shape
        if begin + rows > have or depth > width:
            self.whole = Evidence.room(max(2 * have, begin + rows), max(width, depth))
            self.whole.rows[:begin, :width] = old.rows[:begin]
            self.whole.kinds[:begin] = old.kinds[:begin]
            self.whole.quality[:begin] = old.quality[:begin]
            self.whole.weights[:begin] = old.weights[:begin]
        return self.whole


def _grades() -> NDArray[np.int8]:
    """int8 [KINDS, BEST, DEEPEST + 1]: the level of a row of this quality for a token after so many draft tokens.

    Draft tokens that were right lengthen an exact match. Of a neighbour they say less: three ranges of depth, with five
    or six of similarity each.
    """
    quality, depth = np.arange(BEST)[:, None], np.arange(DEEPEST + 1)
    grades = np.tile(np.minimum(np.searchsorted(LENGTHS, quality + depth), LEVELS - 1), (KINDS, 1, 1))
    near = np.minimum(quality, 4)
    grades[Kind.DENSE] = np.where(depth == 0, np.minimum(quality, 5), np.where(depth <= 2, near + 6, near + 11))
    return grades.astype(np.int8)


GRADES = _grades()

"""What the sources of a draft say, in one form: continuations of the text, and how good each of them is."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.tree import Int32


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
    weights: NDArray[np.float64]

    @classmethod
    def room(cls, rows: int, depth: int) -> Evidence:
        """To be filled."""
        quality, weights = np.empty(rows, np.int32), np.empty(rows)
        return cls(np.empty((rows, depth), np.int32), np.empty(rows, np.int8), quality, weights)

    def part(self, begin: int, end: int) -> Evidence:
        """The rows from begin to end, not copied."""
        part = slice(begin, end)
        return Evidence(self.rows[part], self.kinds[part], self.quality[part], self.weights[part])


class Table:
    """Where the sources of one draft put what they know; used again for the next, so that a step allocates nothing."""

    def __init__(self) -> None:
        self._whole = Evidence.room(512, 64)
        self.size = 0

    def clear(self) -> None:
        self.size = 0

    def add(self, kind: Kind, rows: Int32, depth: int, quality: int) -> None:
        """Rows [R, L] of one kind and quality that weigh alike, to this depth."""
        _fill(self.room(len(rows), depth), rows, depth, int(kind), min(quality, BEST - 1))
        self.take(len(rows))

    def room(self, rows: int, depth: int) -> Evidence:
        """Where so many more rows of at least this depth may be put down; what they hold beyond it is not looked at."""
        begin, end = self.size, self.size + rows
        have, width = self._whole.rows.shape
        if end > have or depth > width:
            grown = Evidence.room(max(2 * have, end), max(width, depth))
            grown.rows[:begin, :width] = self._whole.rows[:begin]
            grown.kinds[:begin] = self._whole.kinds[:begin]
            grown.quality[:begin] = self._whole.quality[:begin]
            grown.weights[:begin] = self._whole.weights[:begin]
            self._whole = grown
        return self._whole.part(begin, end)

    def take(self, rows: int) -> None:
        """So many were put down there."""
        self.size += rows

    @property
    def evidence(self) -> Evidence:
        """All that was put down."""
        return self._whole.part(0, self.size)


@compiled
def _fill(into: Evidence, rows: Int32, depth: int, kind: int, quality: int) -> None:
    for row in range(len(rows)):
        into.kinds[row], into.quality[row], into.weights[row] = kind, quality, 1.0
        for at in range(depth):
            into.rows[row, at] = rows[row, at] if at < rows.shape[1] else -1


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

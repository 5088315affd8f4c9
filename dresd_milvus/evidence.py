"""What the sources of a draft say, in one form: continuations of the text, and how good each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    def of(cls, kind: Kind, rows: Int32, quality: NDArray[np.integer], weights: NDArray[np.floating]) -> Evidence:
        """Rows of one kind."""
        kinds = np.full(len(rows), kind, np.int8)
        return cls(rows, kinds, np.minimum(quality, BEST - 1).astype(np.int32), weights.astype(np.float64))

    @classmethod
    def join(cls, parts: Sequence[Evidence], depth: int) -> Evidence:
        """All of them in one table of `depth` columns."""
        rows = np.full((sum(len(part.rows) for part in parts), depth), -1, np.int32)
        at = 0
        for part in parts:
            width = min(depth, part.rows.shape[1])
            rows[at : at + len(part.rows), :width] = part.rows[:, :width]
            at += len(part.rows)
        if not parts:
            return cls(rows, np.empty(0, np.int8), np.empty(0, np.int32), np.empty(0))
        return cls(
            rows,
            np.concatenate([part.kinds for part in parts]),
            np.concatenate([part.quality for part in parts]),
            np.concatenate([part.weights for part in parts]),
        )


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

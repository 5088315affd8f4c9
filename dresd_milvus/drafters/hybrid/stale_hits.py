"""Hits of earlier searches, for as long as the text goes on as they do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.drafters.base import Context
from dresd_milvus.drafters.hybrid.evidence import Kind, Table
from dresd_milvus.tree import Int32

MOST = 256
"""Hits that are kept: the latest."""


class Late:
    """Keeps hits, and tells what is left of those that the text has followed since.

    A hit has N tokens and a step takes a few of them. That a hit was right so far says more than how similar its key
    was.
    """

    def __init__(self, continuation: int) -> None:
        self._rows, self._weights = np.empty((MOST, continuation), np.int32), np.empty(MOST)
        self._right = np.empty(MOST, np.int32)  # tokens after the one that a hit was found for
        self._kept = self._length = 0

    def begin(self, prompt: Sequence[int]) -> None:
        self._kept, self._length = 0, len(prompt)

    def keep(self, continuations: Int32, weights: NDArray[np.float64], since: Sequence[int]) -> None:
        """Hits, continuations [K, N] with weights [K]; since: the text from the token on that they begin with, to where
        it was last told of."""
        count = min(len(weights), MOST)
        room = MOST - count
        if self._kept > room:
            for held in (self._rows, self._weights, self._right):
                held[:room] = held[self._kept - room : self._kept]
            self._kept = room
        new = slice(self._kept, self._kept + count)
        self._rows[new], self._weights[new], self._right[new] = continuations[:count], weights[:count], -1
        self._kept += _follow(self._rows[new], self._right[new], self._weights[new], np.array(since, np.int32))

    def tell(self, context: Context, table: Table) -> None:
        """Put down what is left, the text having been followed, as good as the tokens are many that were right."""
        kept = slice(0, self._kept)
        table.add(Kind.LATE, self._rows[kept], context.max_depth, self._right[kept], self._weights[kept])

    def follow(self, tokens: Sequence[int]) -> None:
        """The text so far; hits that it has not followed are dropped."""
        kept, new = slice(0, self._kept), np.array(tokens[self._length :], np.int32)
        self._length = len(tokens)
        self._kept = _follow(self._rows[kept], self._right[kept], self._weights[kept], new)


@compiled
def _follow(rows: Int32, right: Int32, weights: NDArray[np.float64], new: Int32) -> int:
    """Of what is left of hits [M, N], keep at the front what begins with the new tokens [T] and goes on, less these;
    how many that is. right [M]: tokens that were right, to be added to."""
    kept, count, width = 0, len(new), rows.shape[1]
    for row in range(len(rows)):
        at = 0
        while at < min(count, width) and rows[row, at] == new[at]:
            at += 1
        if at < count or count == width or rows[row, count] < 0:
            continue
        for place in range(width):
            rows[kept, place] = rows[row, place + count] if place + count < width else -1
        weights[kept], right[kept] = weights[row], right[row] + count
        kept += 1
    return kept

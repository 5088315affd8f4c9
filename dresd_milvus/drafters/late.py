"""Hits of earlier searches, for as long as the text goes on as they do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.drafters.base import Context
from dresd_milvus.evidence import BEST, Kind, Table
from dresd_milvus.tree import Int32

LATE = int(Kind.LATE)

MOST = 256
"""Hits that are kept: the latest."""


class Late:
    """Keeps hits, and tells what is left of those that the text has followed since.

    A hit has N tokens and a step takes a few of them. That a hit was right so far says more than how similar its key
    was.
    """

    def __init__(self, continuation: int) -> None:
        self._rows, self._weights = np.empty((MOST, continuation), np.int32), np.empty(MOST)
        self._places = np.empty(MOST, np.int32)
        self._kept = self._length = 0

    def begin(self, prompt: Sequence[int]) -> None:
        self._kept, self._length = 0, len(prompt)

    def keep(self, continuations: Int32, weights: NDArray[np.float64], since: Sequence[int]) -> None:
        """Hits, continuations [K, N] with weights [K]; since: the text from the token on that they begin with, to where
        it was last told of."""
        count = min(len(weights), MOST)
        room = MOST - count
        if self._kept > room:
            for held in (self._rows, self._weights, self._places):
                held[:room] = held[self._kept - room : self._kept]
            self._kept = room
        new = slice(self._kept, self._kept + count)
        self._rows[new], self._weights[new], self._places[new] = continuations[:count], weights[:count], -1
        self._kept += _follow(self._rows[new], self._places[new], self._weights[new], np.array(since, np.int32))

    def tell(self, context: Context, table: Table) -> None:
        """Put down what is left, the text having been followed."""
        into, depth = table.reserve(self._kept, context.max_depth), context.max_depth
        table.size = _put(*into, table.size, self._rows[: self._kept], self._places, self._weights, depth)

    def follow(self, tokens: Sequence[int]) -> None:
        """The text so far; hits that it has not followed are dropped."""
        kept, new = slice(0, self._kept), np.array(tokens[self._length :], np.int32)
        self._length = len(tokens)
        self._kept = _follow(self._rows[kept], self._places[kept], self._weights[kept], new)


@compiled
def _follow(rows: Int32, places: Int32, weights: NDArray[np.float64], new: Int32) -> int:
    """Of hits [M, N], of which the text has reached the tokens at places [M], keep at the front those that go on with
    the new tokens [T]; how many."""
    kept = 0
    for row in range(len(rows)):
        place = places[row]
        good = place + len(new) + 1 < rows.shape[1]
        at = 0
        while good and at < len(new):
            good = rows[row, place + 1 + at] == new[at]
            at += 1
        if good and rows[row, place + 1 + at] >= 0:
            rows[kept], weights[kept], places[kept] = rows[row], weights[row], place + at
            kept += 1
    return kept


@compiled
def _put(
    into: Int32,
    kinds: NDArray[np.int8],
    quality: Int32,
    weights: NDArray[np.float64],
    size: int,
    rows: Int32,
    places: Int32,
    votes: NDArray[np.float64],
    depth: int,
) -> int:
    """Put down behind `size` rows what is left of hits [M, N], as good as the tokens are many that were right; how many
    there are then."""
    length = rows.shape[1]
    for row in range(len(rows)):
        begin = places[row] + 1
        kinds[size + row], quality[size + row], weights[size + row] = LATE, min(places[row], BEST - 1), votes[row]
        for at in range(depth):
            into[size + row, at] = rows[row, begin + at] if begin + at < length else -1
    return size + len(rows)

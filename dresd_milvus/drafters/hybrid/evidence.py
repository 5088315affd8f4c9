"""Evidence: continuations of the text that sources have found, and how good each of them is.

Weights of different sources cannot be compared, so a source does not say how likely its continuations are. It says of
what kind each continuation is, how good it is, and how much it weighs among those of its kind. The mixer learns how
often such evidence is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.decoding.tree import Int32, Int64

Floats = NDArray[np.float64]


class Kind(IntEnum):
    """Where a continuation comes from. The mixer calibrates each kind by itself."""

    TEXT = 0
    """The running text, after the longest match of its end."""
    TEXT_SHORTER = 1
    """The running text, after shorter matches."""
    CORPUS = 2
    """The corpus, after the longest match."""
    CORPUS_SHORTER = 3
    """The corpus, after the next shorter match that occurs more often."""
    DENSE = 4
    """The rows of the store with the nearest keys."""
    STALE = 5
    """Rows that were found for an earlier token, and that the text has followed since."""
    RECYCLED = 6
    """The tokens that the target held likely when it last saw this token. They are not rows: see recycling."""


KINDS = len(Kind)

GRADES = 16
"""Grades of evidence of one kind, from 0 (worst) to 15."""

QUALITIES = 128
"""The quality of a row is at least 0 and below this."""

NO_PLACE = -1
"""The place of a continuation that is from nowhere."""

DEEPEST = 24
"""A token deeper than this is graded as if it were at this depth."""

LENGTHS = np.array([1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 28, 36, 48, 64])
"""The longest match, in tokens, of grades 0, 1, 2, ..."""


class Evidence(NamedTuple):
    """Continuations of one text.

    rows: int32 [R, L], tokens after the root; -1 or the row's end ends a continuation.
    kinds: int8 [R], see Kind.
    quality: int32 [R], 0 to 127: how many tokens match, or for DENSE the similarity above 0.4 in tenths.
    weights: float64 [R], not negative; only compared with those of the same kind.
    places: int64 [R], where its first token is from: document number * 2^24 + position in the document (DENSE, STALE),
    position in the suffix store (CORPUS) or in the text (TEXT); NO_PLACE if nowhere.
    """

    rows: Int32
    kinds: NDArray[np.int8]
    quality: Int32
    weights: Floats
    places: Int64

    @classmethod
    def of(
        cls,
        kind: Kind | NDArray[np.int8],
        rows: Int32,
        quality: int | Int32,
        weights: float | Floats = 1.0,
        places: int | Int64 = NO_PLACE,
    ) -> Evidence:
        """Rows [R, L] with a kind, a quality, a weight and a place: each one for all rows, or [R]. Qualities above 127
        become 127."""
        kinds, limited, weight = np.empty(len(rows), np.int8), np.empty(len(rows), np.int32), np.empty(len(rows))
        place = np.empty(len(rows), np.int64)
        kinds[:], limited[:], weight[:], place[:] = kind, np.minimum(quality, QUALITIES - 1), weights, places
        return cls(np.ascontiguousarray(rows, np.int32), kinds, limited, weight, place)

    def take(self, at: slice) -> Evidence:
        """Some of the rows."""
        return Evidence(self.rows[at], self.kinds[at], self.quality[at], self.weights[at], self.places[at])

    @classmethod
    def none(cls) -> Evidence:
        """No continuation."""
        return cls.of(Kind.TEXT, np.empty((0, 0), np.int32), 0)

    @classmethod
    def join(cls, parts: Sequence[Evidence]) -> Evidence:
        """The rows of all parts in their order, padded with -1 to one width."""
        parts = [part for part in parts if len(part.kinds)]
        if len(parts) < 2:
            return parts[0] if parts else cls.none()
        rows = np.full((sum(len(part.rows) for part in parts), max(part.rows.shape[1] for part in parts)), -1, np.int32)
        first = 0
        for part in parts:
            rows[first : first + len(part.rows), : part.rows.shape[1]] = part.rows
            first += len(part.rows)
        _, *columns = zip(*parts, strict=True)
        return cls(rows, *(np.concatenate(column) for column in columns))


@dataclass(eq=False)
class Session:
    """What sources remember of one text; a new text has a new session.

    earlier: evidence that was found for an earlier state of the text, each with the number of tokens that the text had
    then. corpus: the name of the origin that the text may be drafted from; None for all rows.
    """

    earlier: list[tuple[Evidence, int]] = field(default_factory=list)
    corpus: str | None = None


class Source(Protocol):
    """A source of evidence for several texts at a time. It never raises for want of data."""

    name: str

    def propose(self, contexts: Sequence[Context], sessions: Sequence[Session]) -> list[list[Evidence]]:
        """What may come next in each text, in any number of parts, given its context [B] and its session [B].

        The text is in context.tokens. Continuations need not be longer than context.max_depth. What belongs to one text
        is kept in its session alone, so that texts may come and go, and miss steps.
        """
        ...


def _grade_table() -> NDArray[np.int8]:
    """int8 [KINDS, QUALITIES, DEEPEST + 1]: the grade of a row's token by kind, quality and depth (0: the first token).

    Draft tokens before it lengthen an exact match by as much. For a neighbour (DENSE) there are three ranges of depth,
    with six, five and five grades of similarity, because similarity says less about deeper tokens.
    """
    quality, depth = np.arange(QUALITIES)[:, None], np.arange(DEEPEST + 1)
    table = np.tile(np.minimum(np.searchsorted(LENGTHS, quality + depth), GRADES - 1), (KINDS, 1, 1))
    near = np.minimum(quality, 4)
    table[Kind.DENSE] = np.where(depth == 0, np.minimum(quality, 5), np.where(depth <= 2, near + 6, near + 11))
    return table.astype(np.int8)


GRADE_TABLE = _grade_table()

"""Token recycling: what the target itself held likely after a token the last time that it saw one (2408.08696)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.decoding.scores import Floats, Scored, kth_highest
from dresd_milvus.decoding.tree import Int32, Int64

SUCCESSORS = 8
"""Tokens remembered of each distribution, as published."""


class Recycled(NamedTuple):
    """The target's own last word on every token: successors int32 [V, K], most likely first, -1 for none, and how
    likely it held them, float32 [V, K]."""

    successors: Int32
    likely: NDArray[np.float32]

    @classmethod
    def nothing(cls, vocabulary: int = 0, width: int = SUCCESSORS) -> Recycled:
        """An empty memory, of a vocabulary of this size."""
        return cls(np.full((vocabulary, width), -1, np.int32), np.zeros((vocabulary, width), np.float32))


NOTHING = Recycled.nothing()


class Recycling:
    """Keeps the most likely successors of every token of the vocabulary that was seen: 64 bytes a token of it.

    They outlive a text. Only nodes that the text went through are remembered: what the target says after a wrong branch
    is of another text.
    """

    def __init__(self) -> None:
        self.recycled = Recycled.nothing()

    def remember(self, scored: Scored, tokens: Int32, path: Int64) -> None:
        """What the target said, logits [N, V], of tokens [N], at the nodes [n] of a path; not of a token that it never
        says, which has no room."""
        if scored.vocab_size < SUCCESSORS:
            return
        if scored.vocab_size > len(self.recycled.successors):
            self.recycled = Recycled.nothing(scored.vocab_size)
        successors, likely = self.recycled
        for node in path.tolist():
            if tokens[node] < len(successors):
                successors[tokens[node]], likely[tokens[node]] = most_likely(scored.row(node), SUCCESSORS)


def most_likely(row: Floats, count: int) -> tuple[Int64, Floats]:
    """The `count` most likely tokens by logits [V], falling, of equal ones the first; and their probabilities."""
    tokens = np.flatnonzero(row >= kth_highest(row, count))
    tokens = tokens[np.argsort(-row[tokens], kind="stable")[:count]]
    mass = row - row[tokens[0]]
    np.exp(mass, out=mass)
    return tokens, mass[tokens] / mass.sum()

"""Token recycling: what the target itself held likely after a token the last time that it saw one (2408.08696)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.compiled import compiled
from dresd_milvus.host import BLOCK, Scored, number, numbers, of_bits, reaches
from dresd_milvus.tree import Int32, Int64

SUCCESSORS = 8
"""Tokens remembered of each distribution, as published."""


class Recycled(NamedTuple):
    """The target's own last word on every token: successors int32 [V, K], most likely first, -1 for none, and how
    likely it held them, float32 [V, K]."""

    successors: Int32
    likely: NDArray[np.float32]

    @classmethod
    def nothing(cls, vocabulary: int = 0, width: int = SUCCESSORS) -> Recycled:
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
        vocabulary = scored.vocabulary
        if vocabulary < SUCCESSORS:
            return
        if vocabulary > len(self.recycled.successors):
            self.recycled = Recycled.nothing(vocabulary)
        successors, likely = self.recycled
        if scored.held is not None:
            _remember(*scored.held, path, tokens, successors, likely)
        else:
            path = path[tokens[path] < len(successors)]
            successors[tokens[path]], likely[tokens[path]] = most_likely(scored.logits[path])


def most_likely(logits: Tensor) -> tuple[Int32, NDArray[np.float32]]:
    """The most likely successors of logits [N, V] on a device, fetched in one piece: int32 and probabilities float32,
    [N, SUCCESSORS]."""
    logits = logits.float()
    best = logits.topk(SUCCESSORS)
    likely = (best.values - logits.logsumexp(-1, keepdim=True)).exp()
    fetched = torch.stack([best.indices.double(), likely.double()]).cpu().numpy()
    return fetched[0].astype(np.int32), fetched[1].astype(np.float32)


@compiled
def _remember(
    address: int,
    width: int,
    kind: NDArray[Any],
    path: Int64,
    tokens: Int32,
    successors: Int32,
    likely: NDArray[np.float32],
) -> None:
    """Put down the most likely successors of the tokens of a path. address, width, kind: of logits [N, V], see
    `Held`."""
    for node in path:
        row, token = numbers(address, width, kind, node), tokens[node]
        if token < len(successors):
            best, highest = successors[token], likely[token]
            _highest(row, best, highest)
            highest[:] = np.exp(highest - highest[0]) / _mass(row, highest[0])


@compiled
def _highest(row: NDArray[Any], best: Int32, highest: NDArray[np.float32]) -> None:
    """Put down which numbers are the highest, and these, falling."""
    last = len(best) - 1
    best[:], highest[:] = -1, -np.inf
    for begin in range(0, len(row), BLOCK):
        block = row[begin : begin + BLOCK]
        if not reaches(block, highest[last]):
            continue
        for at in range(len(block)):
            value = number(block, at)
            if value > highest[last]:
                place = last
                while place > 0 and value > highest[place - 1]:
                    highest[place], best[place] = highest[place - 1], best[place - 1]
                    place -= 1
                highest[place], best[place] = value, begin + at


@compiled(any_order=True)
def _mass(row: NDArray[Any], highest: float) -> float:
    """The sum of e^(number - the highest), within 3 %."""
    total = np.float32(0)
    for at in range(len(row)):
        total += of_bits(_power_bits(number(row, at) - highest))
    return total


@compiled
def _power_bits(value: float) -> int:
    """The bits of a float32 within 3 % of e^value, for a value of at most 0 (Schraudolph 1999, "A fast, compact
    approximation of the exponential function"): thousands of them make the sum that probabilities are divided by."""
    return np.int32(max(np.float32(value), np.float32(-80)) * np.float32(2**23 / np.log(2)) + np.float32(1064872507))

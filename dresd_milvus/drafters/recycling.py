"""Token recycling: what the target itself held likely after a token the last time that it saw one (2408.08696)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.evidence import Table
from dresd_milvus.expansion import Recycled
from dresd_milvus.host import on_host
from dresd_milvus.tree import Int32

SUCCESSORS = 8
"""Tokens remembered of each distribution, as published."""


class Recycling:
    """Keeps the most likely successors of every token of the vocabulary that was seen: 64 bytes a token of it.

    They outlive a text. Only nodes that the text went through are remembered: what the target says after a wrong branch
    is of another text.
    """

    name = "recycling"
    dear = False

    def __init__(self) -> None:
        self.recycled = Recycled.nothing(width=SUCCESSORS)

    def begin(self, prompt: Sequence[int]) -> None:
        pass

    def tell(self, context: Context, table: Table) -> int:
        return 0  # what it knows is looked up by token as a tree grows

    def observe(self, step: Step) -> None:
        logits = step.scored.logits
        vocabulary = logits.shape[1]
        if vocabulary < SUCCESSORS:
            return
        if vocabulary > len(self.recycled.successors):
            self.recycled = Recycled.nothing(vocabulary, SUCCESSORS)
        # Of the walked path the nodes that are part of the text: where it was cut, fewer than were walked.
        path = list(step.path[: len(step.new)])
        _remember(on_host(logits, path), step.tree.tokens[path], self.recycled)


@compiled(any_order=True)
def _remember(walked: NDArray[np.float32], tokens: Int32, recycled: Recycled) -> None:
    """Put down the most likely successors of these tokens [N], by the logits after them [N, V]."""
    last = recycled.successors.shape[1] - 1
    bits = np.empty(walked.shape[1], np.int32)
    for row in range(len(walked)):
        logits, best, likely = walked[row], recycled.successors[tokens[row]], recycled.likely[tokens[row]]
        best[:], likely[:] = -1, -np.inf
        for successor in range(len(logits)):
            if logits[successor] > likely[last]:
                place = last
                while place > 0 and logits[successor] > likely[place - 1]:
                    likely[place], best[place] = likely[place - 1], best[place - 1]
                    place -= 1
                likely[place], best[place] = logits[successor], successor
        highest = likely[0]
        for successor in range(len(logits)):
            bits[successor] = _power_bits(logits[successor] - highest)
        likely[:] = np.exp(likely - highest) / bits.view(np.float32).sum()


@compiled
def _power_bits(value: float) -> int:
    """The bits of a float32 within 3 % of e^value, for a value of at most 0 (Schraudolph 1999, "A fast, compact
    approximation of the exponential function"): thousands of them make the sum that probabilities are divided by."""
    return np.int32(max(np.float32(value), np.float32(-80)) * np.float32(2**23 / np.log(2)) + np.float32(1064872507))

"""Token recycling: what the target itself held likely after a token the last time that it saw one (2408.08696)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.evidence import Table
from dresd_milvus.expansion import Recycled
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
        with torch.inference_mode():
            walked = logits[path].float().softmax(-1).cpu().numpy()
        _remember(walked, step.tree.tokens[path], self.recycled)


@compiled
def _remember(walked: NDArray[np.float32], tokens: Int32, recycled: Recycled) -> None:
    """Put down the most likely successors of these tokens [N], by the probabilities after them [N, V]."""
    last = recycled.successors.shape[1] - 1
    for row in range(len(walked)):
        best, likely = recycled.successors[tokens[row]], recycled.likely[tokens[row]]
        likely[:] = -1
        for successor in range(walked.shape[1]):
            probability, place = walked[row, successor], last
            if probability > likely[last]:
                while place > 0 and probability > likely[place - 1]:
                    likely[place], best[place] = likely[place - 1], best[place - 1]
                    place -= 1
                likely[place], best[place] = probability, successor

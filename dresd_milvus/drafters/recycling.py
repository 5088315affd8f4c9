"""Token recycling: what the target itself held likely after a token the last time that it saw one (2408.08696)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.evidence import Evidence
from dresd_milvus.expansion import Recycled

SUCCESSORS = 8
"""Tokens remembered of each distribution, as published."""


class Recycling:
    """Keeps the most likely successors of every token of the vocabulary that was seen: 64 bytes a token of it.

    They outlive a text. Only nodes that the text went through are remembered: what the target says after a wrong branch
    is of another text.
    """

    name = "recycling"

    def __init__(self) -> None:
        self.recycled = Recycled.nothing(width=SUCCESSORS)

    def begin(self, prompt: Sequence[int]) -> None:
        pass

    def tell(self, context: Context) -> list[Evidence]:
        return []

    def observe(self, step: Step) -> None:
        logits = step.scored.logits
        vocabulary = logits.shape[1]
        if vocabulary < SUCCESSORS:
            return
        if vocabulary > len(self.recycled.successors):
            self.recycled = Recycled.nothing(vocabulary, SUCCESSORS)
        # Of the walked path the nodes that are part of the text: where it was cut, fewer than were walked.
        path = list(step.path[: len(step.new)])
        walked = logits[path].float()
        top = walked.topk(SUCCESSORS)
        likely = (top.values - walked.logsumexp(-1, keepdim=True)).exp()
        seen = step.tree.tokens[path]
        self.recycled.successors[seen] = top.indices.cpu().numpy().astype(np.int32)
        self.recycled.likely[seen] = likely.cpu().numpy()

"""Token recycling: what the target itself held likely after a token the last time that it saw one (2408.08696)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.compiled import compiled
from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.evidence import Table
from dresd_milvus.expansion import Recycled
from dresd_milvus.tree import Int32

SUCCESSORS = 8
"""Tokens remembered of each distribution, as published."""


BLOCK = 64
"""Logits that are passed over together."""


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
        path = step.path[: len(step.new)]
        tokens = step.tree.tokens[path].tolist()
        if step.scored.on_host:
            for node, token in zip(path, tokens, strict=True):
                _remember(step.scored.row(node), token, self.recycled)
        else:
            self.recycled.successors[tokens], self.recycled.likely[tokens] = likeliest(logits[path])


def likeliest(logits: Tensor) -> tuple[Int32, NDArray[np.float32]]:
    """The most likely successors of logits [N, V] on a device, fetched in one piece: int32 and probabilities float32,
    [N, SUCCESSORS]."""
    logits = logits.float()
    best = logits.topk(SUCCESSORS)
    likely = (best.values - logits.logsumexp(-1, keepdim=True)).exp()
    fetched = torch.stack([best.indices.double(), likely.double()]).cpu().numpy()
    return fetched[0].astype(np.int32), fetched[1].astype(np.float32)


@compiled(any_order=True)
def _remember(logits: NDArray[np.float32], token: int, recycled: Recycled) -> None:
    """Put down the most likely successors of a token, by the logits [V] after it."""
    last = recycled.successors.shape[1] - 1
    best, likely = recycled.successors[token], recycled.likely[token]
    best[:], likely[:] = -1, -np.inf
    for begin in range(0, len(logits), BLOCK):
        block = logits[begin : begin + BLOCK]
        if not _exceeds(block, likely[last]):
            continue
        for at in range(len(block)):
            if block[at] > likely[last]:
                place = last
                while place > 0 and block[at] > likely[place - 1]:
                    likely[place], best[place] = likely[place - 1], best[place - 1]
                    place -= 1
                likely[place], best[place] = block[at], begin + at
    highest, bits = likely[0], np.empty(len(logits), np.int32)
    for successor in range(len(logits)):
        bits[successor] = _power_bits(logits[successor] - highest)
    likely[:] = np.exp(likely - highest) / bits.view(np.float32).sum()


@compiled
def _exceeds(block: NDArray[np.float32], least: float) -> bool:
    """Whether any of them is higher: counted, not searched for, so that many are compared at a time."""
    higher = 0
    for at in range(len(block)):
        higher += block[at] > least
    return higher > 0


@compiled
def _power_bits(value: float) -> int:
    """The bits of a float32 within 3 % of e^value, for a value of at most 0 (Schraudolph 1999, "A fast, compact
    approximation of the exponential function"): thousands of them make the sum that probabilities are divided by."""
    return np.int32(max(np.float32(value), np.float32(-80)) * np.float32(2**23 / np.log(2)) + np.float32(1064872507))

"""Losslessness as a result: where a system's text first departs from vanilla's, and how close the call was there.

In float64 it does nowhere. In low precision another batch shape rounds otherwise, and a tie breaks differently: then
the gap is of the size of one rounding step. Scores are the sampler's: logits when greedy, filtered log-probabilities
with the position's noise when sampled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dresd_milvus.decoding.protocols import Target
from dresd_milvus.decoding.sampling import Sampler
from dresd_milvus.decoding.tree import DraftTree


def first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """The index of the first token in which two texts differ, an early end included; None if they are the same."""
    for index, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return index
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs))


def gap_at(target: Target, sampler: Sampler, text: Sequence[int]) -> float:
    """The margin of the target's pick after `text` (not empty), decoded plainly."""
    target.prefill(text[:-1])
    scores = sampler.scores(target.verify(DraftTree.root_only(text[-1])).row(0), text)
    second, best = np.partition(scores, -2)[-2:]
    return float(best - second)

"""What a step costs by its draft nodes, timed apart from decoding: for recordings and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.target.cuda_graphs import SIZES as SHAPES
from dresd_milvus.target.hf_target import HFTarget

SIZES = tuple(shape - 1 for shape in SHAPES)
"""Draft nodes, the root not counted: 0, 8, 16, 32, 64."""

TIMES, LENGTH = 9, 128
"""How often each size is timed, and after how many tokens of text."""


def step_times(target: HFTarget, sizes: Sequence[int]) -> dict[int, float]:
    """Milliseconds of the target's steps by their draft nodes, one size after another in turns. Its text is forgotten.

    Of each the lower quartile: what else a machine does only adds to a time.
    """
    found: dict[int, list[float]] = {nodes: [] for nodes in sizes}
    length = min(LENGTH, target.context // 4)
    for turn in range(TIMES + 1):
        for step, (nodes, times) in enumerate(found.items()):
            # Texts grow: no two steps of decoding have the same shapes.
            target.prefill([1] * (length + len(found) * turn + step))
            # Two children a node: as deep and as wide as drafts are.
            parents = np.concatenate([[-1], np.arange(nodes) // 2]).astype(np.int32)
            tree = DraftTree(np.arange(1, nodes + 2, dtype=np.int32) % max(target.vocab_size, 2), parents)
            begun = perf_counter()
            target.verify(tree)
            if turn:
                times.append(1e3 * (perf_counter() - begun))
    return {nodes: round(float(np.percentile(times, 25)), 4) for nodes, times in found.items()}

"""What verifying a draft costs on this machine: measured once, by the number of draft nodes, and kept."""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch

from dresd_milvus.caches import cache_folder
from dresd_milvus.files.atomic import write_json
from dresd_milvus.fixed import SIZES
from dresd_milvus.loading import LoadedModel
from dresd_milvus.ranks import Ranks
from dresd_milvus.target import HFTarget
from dresd_milvus.tree import DraftTree

TIMED = tuple(size - 1 for size in SIZES)
"""Draft nodes of the steps that are timed, without the root: 0, 8, 16, 32, 64."""

TIMES, LENGTH = 9, 128
"""How often each is timed, and after how many tokens of text."""


class StepCosts(NamedTuple):
    """ms: milliseconds of verifying a tree by its draft nodes, at least two sizes."""

    ms: dict[int, float]

    def of(self, nodes: int) -> float:
        """Between the sizes that were timed linear, beyond them as the last two go on."""
        at = sorted(self.ms)
        if nodes > at[-1]:
            slope = (self.ms[at[-1]] - self.ms[at[-2]]) / (at[-1] - at[-2])
            return self.ms[at[-1]] + max(slope, 0.0) * (nodes - at[-1])
        return float(np.interp(nodes, at, [self.ms[n] for n in at]))


def measure_costs(target: HFTarget) -> StepCosts:
    """Time the target's steps by their draft nodes, one size after another in turns. Its text is forgotten.

    Of each the lower quartile: what else a machine does only adds to a time.
    """
    found: dict[int, list[float]] = {nodes: [] for nodes in TIMED}
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
    return StepCosts({nodes: round(float(np.percentile(times, 25)), 4) for nodes, times in found.items()})


def step_costs(model: LoadedModel, ranks: Ranks | None = None) -> StepCosts:
    """What steps of this model cost here: as measured before, else measured now and kept in the user's cache.

    Every rank of the model calls it; rank 0's figures are given to all.
    """
    ranks = ranks or Ranks()
    file = _file(model, ranks.world)
    known = ranks.share(lambda: _kept(file))
    if known is None:
        measured = measure_costs(model.target)
        known = ranks.share(lambda: measured)
        if ranks.first:
            with suppress(OSError):  # where nothing can be kept, they are measured again the next time
                write_json(file, known.ms)
    return known


def _kept(file: Path) -> StepCosts | None:
    try:
        found = {int(nodes): float(ms) for nodes, ms in json.loads(file.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return StepCosts(found) if len(found) > 1 and min(found.values()) > 0 else None


def _file(model: LoadedModel, ranks: int) -> Path:
    """Named after all that costs depend on."""
    target = model.target
    device = torch.cuda.get_device_name(target.device) if target.device.type == "cuda" else "cpu"
    threads = torch.get_num_threads()
    fixed = target.fixed is not None
    about = (model.fingerprint, str(target.dtype), device, platform.node(), threads, torch.__version__, ranks, fixed)
    name = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    return cache_folder() / "costs" / f"{name}.json"

"""The cost of a step: milliseconds of a forward pass by its draft nodes, learned while decoding and kept."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dresd_milvus.files.atomic import write_json
from dresd_milvus.files.cache_folder import cache_folder

PRIORS = {"cpu": {0: 30.0, 4: 36.0, 8: 42.0, 16: 51.0, 32: 72.0, 64: 114.0}}
PRIORS["cuda"] = {0: 30.0, 4: 30.5, 8: 31.0, 16: 32.0, 32: 33.0, 64: 36.0}
"""Milliseconds by draft nodes to begin with, by kind of device. Only the ratios matter: the first steps of decoding set
the scale. They are low on purpose: a size that seems cheap is tried and corrected, one that seems dear never is."""

RATE = 0.1
"""How far an estimate follows what one more step took, once it rests on many."""

DRIFT = 0.003
"""The same for the sizes that the step did not have: a machine that slows down does so at all sizes."""


class StepCosts:
    """Milliseconds of a forward pass by its draft nodes, as given: decoding does not change them.

    ms: of at least two sizes. Between them the cost is linear, beyond them it goes on as between the last two.
    """

    def __init__(self, ms: Mapping[int, float]) -> None:
        self.sizes = tuple(sorted(ms))
        self._ms = np.array([ms[size] for size in self.sizes], np.float64)

    @property
    def ms(self) -> dict[int, float]:
        """Milliseconds by draft nodes, rounded to 0.1 microseconds; a larger size never costs less."""
        return {size: round(self.of(size), 4) for size in self.sizes}

    def of(self, nodes: int) -> float:
        """Milliseconds of a step with this many draft nodes."""
        return float(self.of_each(np.array([nodes]))[0])

    def of_each(self, nodes: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same of several numbers of nodes [n]."""
        rising = np.maximum.accumulate(self._ms)
        slope = (rising[-1] - rising[-2]) / (self.sizes[-1] - self.sizes[-2])
        return np.interp(nodes, self.sizes, rising) + slope * np.maximum(nodes - self.sizes[-1], 0)

    @property
    def plain_unknown(self) -> bool:
        """Whether steps without a draft still have to be seen, because the costs of others are compared with theirs."""
        return False

    def observe(self, nodes: int, milliseconds: float) -> None:
        """A step with this many draft nodes took so long; costs that are given stay as they are."""

    def keep(self) -> None:
        """Keep for the next session what was learned: here nothing."""


class LearnedCosts(StepCosts):
    """Milliseconds of a forward pass by its draft nodes, estimated from the steps of decoding.

    device: the kind of device, 'cpu' or 'cuda', whose prior is taken for what is not known. file: where estimates are
    kept between sessions, None for nowhere; a file that is missing or damaged holds nothing.
    """

    def __init__(self, device: str = "cpu", file: Path | None = None) -> None:
        prior = PRIORS.get(device, PRIORS["cuda"])
        super().__init__(prior)
        self._file, self._prior = file, self._ms.copy()
        self._steps = np.zeros(len(self.sizes), np.int64)  # how many steps of each size were seen
        if file and (kept := _read(file, self.sizes)):
            self._ms, self._steps = kept

    @property
    def plain_unknown(self) -> bool:
        return bool(self._steps[0] < 2)  # the first of them is left out, see `observe`

    def observe(self, nodes: int, milliseconds: float) -> None:
        """Move the estimates towards what a step with this many draft nodes took.

        The first step of a size is left out: it allocates and compiles. Later ones count at most as double and at least
        as half of what was expected, for a machine that is busy for a moment. Sizes that had no step yet keep their
        prior ratio to the size of this one.
        """
        at = min(int(np.searchsorted(self.sizes, nodes)), len(self.sizes) - 1)
        known = self._steps > 1
        self._steps[at] += 1
        if self._steps[at] == 1:
            return
        ratio = milliseconds / self.of(nodes)
        if known.any():  # else this step sets the scale of all
            ratio = min(max(ratio, 0.5), 2.0)
        rate = max(1 / (self._steps[at] - 1), RATE)
        self._ms[at] *= ratio**rate
        expected = self._ms[at] * self._prior / self._prior[at]
        weights = np.where(known, DRIFT, rate)
        weights[at] = 0.0
        self._ms *= (expected / self._ms) ** weights

    def keep(self) -> None:
        """Write the estimates to the file, whole or not at all; where nothing can be written, nothing is kept."""
        if self._file is None or self._steps.max() < 2:
            return
        firm = np.minimum(self._steps, round(1 / RATE)).tolist()
        content = {size: [ms, steps] for (size, ms), steps in zip(self.ms.items(), firm, strict=True)}
        with suppress(OSError):
            write_json(self._file, content)


def _read(file: Path, sizes: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Milliseconds and steps of every size as kept in a file; None where it is missing, damaged or of other sizes."""
    try:
        content = json.loads(file.read_text())
        kept = [(float(ms), int(steps)) for ms, steps in (content[str(size)] for size in sizes)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    ms, steps = (np.array(column) for column in zip(*kept, strict=True))
    return (ms, steps) if np.isfinite(ms).all() and ms.min() > 0 and steps.min() >= 0 else None


def costs_file(fingerprint: str, dtype: torch.dtype, device: torch.device, graphs: bool, ranks: int) -> Path:
    """The file of a model's costs in the user's cache, named after all that they depend on.

    fingerprint: of the model's files. graphs: whether it runs as CUDA graphs. ranks: that share the model.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    machine = platform.node(), torch.get_num_threads(), torch.__version__
    about = repr((fingerprint, str(dtype), name, *machine, ranks, graphs))
    return cache_folder() / "costs" / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.json"

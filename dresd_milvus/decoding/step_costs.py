"""Step costs: milliseconds of a forward pass by number of draft nodes, learned while decoding and saved to a file."""

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
"""Milliseconds by draft nodes before anything was measured, by kind of device. Only the ratios matter: the first steps
set the scale. The costs of large sizes are low on purpose: a size that seems cheap is tried and its estimate corrected;
a size that seems expensive would never be tried."""

LEARNING_RATE = 0.1
"""Weight of a new step in an estimate that rests on many steps."""

DRIFT_RATE = 0.05
"""Weight of a new step in the estimates of other sizes, half the learning rate: half of a change is taken to be one of
the machine, which slows down at all sizes."""


class StepCosts:
    """Known costs: milliseconds of a forward pass by number of draft nodes. Decoding does not change them.

    ms: milliseconds by size (draft nodes), at least two sizes. Between sizes the cost is interpolated linearly; above
    the largest it is extrapolated from the last two.
    """

    def __init__(self, ms: Mapping[int, float]) -> None:
        self.sizes = tuple(sorted(ms))
        self._ms = np.array([ms[size] for size in self.sizes], np.float64)

    @property
    def ms(self) -> dict[int, float]:
        """Milliseconds by draft nodes, rounded to 0.1 microseconds; a larger size never costs less than a smaller."""
        return {size: round(self.of(size), 4) for size in self.sizes}

    def of(self, nodes: int) -> float:
        """Milliseconds of a forward pass with this number of draft nodes."""
        return float(self.of_each(np.array([nodes]))[0])

    def of_each(self, nodes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Milliseconds [n] of forward passes with these numbers of draft nodes, int64 [n]."""
        rising = np.maximum.accumulate(self._ms)
        slope = (rising[-1] - rising[-2]) / (self.sizes[-1] - self.sizes[-2])
        return np.interp(nodes, self.sizes, rising) + slope * np.maximum(nodes - self.sizes[-1], 0)

    @property
    def needs_plain_step(self) -> bool:
        """Whether a step without a draft must still be measured. All other costs are compared with its cost."""
        return False

    def observe(self, nodes: int, milliseconds: float) -> None:
        """Learn from the time of a step with this number of draft nodes. Known costs do not change."""

    def save(self) -> None:
        """Save what was learned for the next session. Known costs are not saved."""


class LearnedCosts(StepCosts):
    """Costs that are estimated from the steps of decoding, starting from a prior.

    device: 'cpu' or 'cuda', selects the prior (see PRIORS). file: holds the estimates between sessions, None for no
    file; a missing or damaged file is ignored. prior: milliseconds by size before anything was measured, if it is not
    that of PRIORS.
    """

    def __init__(self, device: str = "cpu", file: Path | None = None, prior: Mapping[int, float] | None = None) -> None:
        super().__init__(prior or PRIORS.get(device, PRIORS["cuda"]))
        self._file, self._prior = file, self._ms.copy()
        self._steps = np.zeros(len(self.sizes), np.int64)  # steps of each size so far
        if file and (saved := _read(file, self.sizes)):
            self._ms, self._steps = saved

    @property
    def needs_plain_step(self) -> bool:
        return bool(self._steps[0] < 2)  # `observe` ignores the first

    def observe(self, nodes: int, milliseconds: float) -> None:
        """Move the estimates towards the time that a step with this number of draft nodes took.

        The first step of a size is ignored: it allocates memory and compiles. The time of a later step is clipped to
        between half and twice the estimate, so that a short load of the machine does little harm. A size without a
        step is as far off the prior as the sizes around it (the logarithm of the ratio is interpolated).
        """
        at = min(int(np.searchsorted(self.sizes, nodes)), len(self.sizes) - 1)
        begun = bool((self._steps > 1).any())
        self._steps[at] += 1
        if self._steps[at] == 1:
            return
        ratio = milliseconds / self.of(nodes)
        if begun:  # otherwise this step sets the scale of all sizes
            ratio = min(max(ratio, 0.5), 2.0)
        seen, rates = self._steps > 1, np.full(len(self.sizes), DRIFT_RATE)
        rates[at] = max(1 / (self._steps[at] - 1), LEARNING_RATE)
        self._ms[seen] *= ratio ** rates[seen]
        off = np.interp(self.sizes, np.array(self.sizes)[seen], np.log(self._ms / self._prior)[seen])
        self._ms[~seen] = (self._prior * np.exp(off))[~seen]

    def save(self) -> None:
        """Write the estimates to the file, whole or not at all; a file that cannot be written is no error."""
        if self._file is None or self._steps.max() < 2:
            return
        counts = np.minimum(self._steps, round(1 / LEARNING_RATE)).tolist()
        content = {size: [ms, steps] for (size, ms), steps in zip(self.ms.items(), counts, strict=True)}
        with suppress(OSError):
            write_json(self._file, content)


def _read(file: Path, sizes: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Milliseconds and steps of every size from a file; None if the file is missing, damaged or has other sizes."""
    try:
        content = json.loads(file.read_text())
        rows = [(float(ms), int(steps)) for ms, steps in (content[str(size)] for size in sizes)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    ms, steps = (np.array(column) for column in zip(*rows, strict=True))
    return (ms, steps) if np.isfinite(ms).all() and ms.min() > 0 and steps.min() >= 0 else None


def costs_file(fingerprint: str, dtype: torch.dtype, device: torch.device, graphs: bool, ranks: int) -> Path:
    """The file in the user's cache folder that holds the costs of a model on this machine.

    Its name is a hash of all that costs depend on: the model's fingerprint, dtype and device, whether it runs as CUDA
    graphs (`graphs`), and the number of ranks that share it; the host, its threads and the version of torch.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    machine = platform.node(), torch.get_num_threads(), torch.__version__
    key = repr((fingerprint, str(dtype), name, *machine, ranks, graphs))
    return cache_folder() / "costs" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"

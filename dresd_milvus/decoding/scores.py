"""What the target says of a tree, and how the host reads it: through torch and numpy, on CPU and CUDA alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.floating[Any]]

GROUPS = 64
"""Numbers of a row in each of the groups that `kth_highest` takes the maximum of."""


class Scored:
    """The target's view of every node of a tree: logits [N, V] and the hidden states [N, H] they came from.

    states: these as the model gave them, [N, H] or [1, N, H]. With CUDA graphs the logits are overwritten by the next
    pass: what outlives a step must copy what it keeps of them.
    """

    def __init__(self, logits: Tensor, hidden: Tensor) -> None:
        self.states, self._logits = hidden, logits
        self._rows: dict[int, Floats] = {}

    @property
    def logits(self) -> Tensor:
        return self._logits.flatten(0, -2)

    @property
    def hidden(self) -> Tensor:
        return self.states.flatten(0, -2)

    @property
    def vocabulary(self) -> int:
        """V."""
        return self._logits.shape[-1]

    def row(self, node: int) -> Floats:
        """The logits [V] of one node on the host, not to be changed: float64 of float64, else float32.

        Fetched at the first call and kept: a step looks at the one to five nodes that the text goes through.
        """
        if node not in self._rows:
            self._rows[node] = on_host(self.logits[node])
        return self._rows[node]


def on_host(values: Tensor) -> Floats:
    """Values of any device and floating dtype as a numpy array: float64 of float64, float32 of all others.

    Not to be changed: where values already are such numbers on the host, the array shares their memory.
    """
    wide = values if values.dtype == torch.float64 else values.float()
    return wide.cpu().numpy()


def kth_highest(row: Floats, k: int) -> Any:
    """The k-th highest of numbers [V], 1 <= k <= V, equal ones counted apart.

    The maxima of groups of numbers bound it from below, so that only the few numbers above the bound are partitioned:
    of 128,256 logits all at once take np.partition several times as long.
    """
    groups = len(row) // GROUPS
    if groups >= k:
        maxima = row[: groups * GROUPS].reshape(GROUPS, groups).max(axis=0)
        row = row[row >= np.partition(maxima, groups - k)[groups - k]]
    return np.partition(row, len(row) - k)[len(row) - k]

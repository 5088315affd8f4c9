"""Logits and hidden states of a verified tree, and how they are read: through torch and numpy, on CPU and GPU alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.floating[Any]]

GROUP_SIZE = 64
"""Numbers in each of the groups that `kth_highest` takes the maximum of."""


class Scored:
    """The target's output for every node of a tree: logits [N, V], and the hidden states [N, H] that they came from.

    states: the hidden states as the model returned them, [N, H] or [1, N, H].
    With CUDA graphs the next forward pass overwrites the logits: copy what has to outlive a step.
    """

    def __init__(self, logits: Tensor, hidden: Tensor) -> None:
        self.states, self._logits = hidden, logits
        self._rows: dict[int, Floats] = {}

    @property
    def logits(self) -> Tensor:
        """Logits [N, V], on the target's device."""
        return self._logits.flatten(0, -2)

    @property
    def hidden(self) -> Tensor:
        """Hidden states [N, H], the input of the output head, on the target's device."""
        return self.states.flatten(0, -2)

    @property
    def vocab_size(self) -> int:
        """The number of logits of a node (V)."""
        return self._logits.shape[-1]

    def row(self, node: int) -> Floats:
        """The logits [V] of one node as a read-only numpy array: float64 if the model computes in it, else float32.

        The first call copies them from the device; later calls return the same array. A step reads one to five nodes.
        """
        if node not in self._rows:
            self._rows[node] = to_numpy(self.logits[node])
        return self._rows[node]


def to_numpy(values: Tensor) -> Floats:
    """A floating-point tensor of any device as a numpy array: float64 stays, all other dtypes become float32.

    Read only: the array may share the tensor's memory.
    """
    wide = values if values.dtype == torch.float64 else values.float()
    return wide.cpu().numpy()


def kth_highest(row: Floats, k: int) -> Any:
    """The k-th highest of the numbers [V], 1 <= k <= V; equal numbers count separately.

    At least k numbers are not below the k-th highest maximum of the groups, so only those are partitioned. On 128,256
    logits this is several times faster than np.partition of all.
    """
    groups = len(row) // GROUP_SIZE
    if groups >= k:
        maxima = row[: groups * GROUP_SIZE].reshape(GROUP_SIZE, groups).max(axis=0)
        row = row[row >= np.partition(maxima, groups - k)[groups - k]]
    return np.partition(row, len(row) - k)[len(row) - k]

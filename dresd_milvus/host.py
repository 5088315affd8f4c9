"""What the target says of a tree, and how the host reads it: with numpy and one thread, for a step's few rows are not
worth waking the model's threads for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.compiled import compiled

Floats = NDArray[np.floating[Any]]


class Scored:
    """The target's view of every node of a tree: logits [N, V] and the hidden states [N, H] they came from."""

    def __init__(self, logits: Tensor, hidden: Tensor) -> None:
        self.logits, self.hidden = logits, hidden
        self.on_host = logits.is_cpu
        self._held = _readable(logits) if self.on_host else None
        self._rows: dict[int, Floats] = {}

    def row(self, node: int) -> Floats:
        """The logits [V] of a node on the host: float64 of float64, float32 of all others. Made once: what picks and
        what learns read the same rows, and soon after one another they are still in the processor's cache."""
        found = self._rows.get(node)
        if found is None:
            held = _readable(self.logits[node].cpu()) if self._held is None else self._held[node]
            self._rows[node] = found = _as_floats(held)
        return found


def on_host(values: Tensor) -> Floats:
    """The same values [V], of any device and floating dtype: float64 of float64, float32 of all others."""
    return _as_floats(_readable(values.cpu()))


def _readable(values: Tensor) -> NDArray[Any]:
    """numpy does not have bfloat16: its bits."""
    return (values.view(torch.int16) if values.dtype == torch.bfloat16 else values).numpy()


def _as_floats(held: NDArray[Any]) -> Floats:
    if held.dtype == np.int16:
        return _widened(held)
    return held if held.dtype == np.float64 else held.astype(np.float32, copy=False)


@compiled
def _widened(bits: NDArray[np.int16]) -> NDArray[np.float32]:
    """bfloat16 is the upper half of a float32."""
    wide = np.empty(len(bits), np.int32)
    for at in range(len(bits)):
        wide[at] = np.int32(bits[at]) << 16
    return wide.view(np.float32)

"""Logits as numpy reads them, by one thread: a step's few rows are not worth waking the model's threads for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.compiled import compiled


def on_host(values: Tensor, rows: Sequence[int] | None = None) -> NDArray[np.floating[Any]]:
    """The same values, of any shape, device and floating dtype, or so many rows of them: float64 of float64, float32 of
    all others."""
    if rows is not None and values.device.type != "cpu":
        values, rows = values[list(rows)], None
    values = values.cpu()
    if values.dtype == torch.bfloat16:  # which numpy does not have: the upper half of a float32
        bits = values.contiguous().view(torch.int16).numpy()
        bits = bits if rows is None else bits[rows]
        return _widened(bits.reshape(-1)).reshape(bits.shape)
    held = (values if values.dtype == torch.float64 else values.float()).numpy()
    return held if rows is None else held[rows]


@compiled
def _widened(bits: NDArray[np.int16]) -> NDArray[np.float32]:
    wide = np.empty(len(bits), np.int32)
    for at in range(len(bits)):
        wide[at] = np.int32(bits[at]) << 16
    return wide.view(np.float32)

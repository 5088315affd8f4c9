"""What the target says of a tree, and how the host reads it: in compiled code and with one thread: a few rows are not
worth waking the model's threads for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import overload
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.compiled import compiled

Floats = NDArray[np.floating[Any]]

BLOCK = 64
"""Numbers of a row that are passed over together."""


class Scored:
    """The target's view of every node of a tree: logits [N, V] and the hidden states [N, H] they came from.

    held: the logits where the host can read them, see `readable`; None while they are on a device.
    """

    def __init__(self, logits: Tensor, hidden: Tensor) -> None:
        self.logits, self.hidden = logits, hidden
        self.held = readable(logits) if logits.is_cpu else None


def on_host(values: Tensor) -> Floats:
    """The same values [V], of any device and floating dtype: float64 of float64, float32 of all others."""
    return _floats(readable(values.cpu()))


def readable(values: Tensor) -> NDArray[Any]:
    """The same memory as an array, of bfloat16, which numpy does not have, its bits as int16; of what compiled code
    cannot read a copy in float32."""
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy()
    return (values.float() if values.dtype == torch.float16 else values).numpy()


def floats(row: NDArray[Any]) -> Floats:
    """For compiled code: a readable row [V] as numbers."""
    raise NotImplementedError


@overload(floats, strict=False)
def _floats_of(row: Any) -> Any:
    if isinstance(row.dtype, types.Integer):
        return lambda row: _widened(row)
    return lambda row: row


@compiled
def _floats(row: NDArray[Any]) -> Floats:
    return floats(row)


@compiled
def _widened(bits: NDArray[np.int16]) -> NDArray[np.float32]:
    """bfloat16 is the upper half of a float32."""
    wide = np.empty(len(bits), np.int32)
    for at in range(len(bits)):
        wide[at] = np.int32(bits[at]) << 16
    return wide.view(np.float32)


@compiled
def reaches(block: Floats, least: float) -> bool:
    """Whether any of a few numbers is as high: counted, not searched for, so that many are compared at a time."""
    many = 0
    for at in range(len(block)):
        many += block[at] >= least
    return many > 0


@compiled
def likeliest(row: Floats) -> int:
    """The first of the highest numbers."""
    best = 0
    for begin in range(0, len(row), BLOCK):
        block = row[begin : begin + BLOCK]
        if reaches(block, row[best]):
            for at in range(len(block)):
                if block[at] > row[best]:
                    best = begin + at
    return best

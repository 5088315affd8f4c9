"""What the target says of a tree, and how the host reads it: in compiled code and with one thread: a few rows are not
worth waking the model's threads for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.compiled import compiled

Floats = NDArray[np.floating[Any]]

KINDS: dict[torch.dtype, NDArray[Any]] = {
    torch.bfloat16: np.empty(0, np.int16),
    torch.float32: np.empty(0, np.float32),
    torch.float64: np.empty(0, np.float64),
}
"""What compiled code can read, and as what: numpy has no bfloat16."""

BLOCK = 64
"""Numbers of a row that are passed over together."""


Held = tuple[int, int, NDArray[Any]]
"""Rows of numbers in the host's memory, told to compiled code in the fewest words: to make a tensor an array is several
calls into torch and numpy, each of which finds its code driven out of the caches.

The address of the first number; how many are in a row; an empty array of their dtype, bfloat16 as its bits. Good for as
long as the tensor is kept that they are of.
"""


class Scored:
    """The target's view of every node of a tree: logits [N, V] and the hidden states [N, H] they came from.

    states: these as the model gave them, [N, H] or [1, N, H]. held: the logits where the host can read them; None while
    they are on a device.
    """

    def __init__(self, logits: Tensor, hidden: Tensor) -> None:
        self.states, self._logits = hidden, logits
        self.held: Held | None = None
        if logits.is_cpu:
            self._read, self.held = readable(logits)

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


def readable(values: Tensor) -> tuple[Tensor, Held]:
    """Values [..., V] of the host and of any floating dtype as compiled code can read them: (what to keep meanwhile,
    where they are). float16, which it cannot read, becomes float32."""
    kind = KINDS.get(values.dtype)
    if kind is None:
        values, kind = values.float(), KINDS[torch.float32]
    if not values.is_contiguous():
        values = values.contiguous()
    return values, (values.data_ptr(), values.shape[-1], kind)


def on_host(values: Tensor) -> Floats:
    """A copy of values [V] of any device and floating dtype: float64 of float64, float32 of all others."""
    _kept, held = readable(values.cpu())
    return _copied(*held)


@compiled
def _copied(address: int, width: int, kind: NDArray[Any]) -> Floats:
    return floats(numbers(address, width, kind, 0))


@compiled
def numbers(address: int, width: int, kind: NDArray[Any], row: int) -> NDArray[Any]:
    """One of the rows [V] that are `Held`, where it is, to be read only: bfloat16 as its bits, see `number`."""
    return carray(_pointer(address + row * width * kind.itemsize, kind), (width,))


@intrinsic
def _pointer(typing, address, kind):  # type: ignore[no-untyped-def]
    """To numbers of an array's dtype at an address."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(kind.dtype)(types.intp, kind), generate


@intrinsic
def of_bits(typing, bits):  # type: ignore[no-untyped-def]
    """The float32 of these bits, an int32."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


def number(row: NDArray[Any], at: int) -> Any:
    """One of a row's numbers, which may be bfloat16: in compiled code, of which this is only the name.

    No row is made float32 as a whole: behind a forward pass, writing it takes about as long as what is done with it.
    """
    raise NotImplementedError


@overload(number, strict=False)
def _number_of(row: Any, at: Any) -> Any:
    if isinstance(row.dtype, types.Integer):  # bfloat16 is the upper half of a float32
        return lambda row, at: of_bits(np.int32(np.int32(row[at]) << np.int32(16)))
    return lambda row, at: row[at]


def like(value: float, row: NDArray[Any]) -> Any:
    """A number of the type that a row's are compared in: in compiled code, of which this is only the name."""
    raise NotImplementedError


@overload(like, strict=False)
def _like(value: Any, row: Any) -> Any:
    if row.dtype == types.float64:
        return lambda value, row: np.float64(value)
    return lambda value, row: np.float32(value)


@compiled
def floats(row: NDArray[Any]) -> Floats:
    """A copy of a row [V], bfloat16 as float32."""
    made = np.full(len(row), like(0.0, row))
    for at in range(len(row)):
        made[at] = number(row, at)
    return made


@compiled
def reaches(block: NDArray[Any], least: Any) -> bool:
    """Whether any of a few numbers is as high: counted, not searched for, so that many are compared at a time."""
    many = 0
    for at in range(len(block)):
        many += number(block, at) >= least
    return many > 0


@compiled
def likeliest(row: NDArray[Any]) -> int:
    """The first of the highest numbers [V]."""
    best = 0
    for begin in range(0, len(row), BLOCK):
        block = row[begin : begin + BLOCK]
        if reaches(block, number(row, best)):
            for at in range(len(block)):
                if number(block, at) > number(row, best):
                    best = begin + at
    return best


@compiled
def gather(row: NDArray[Any], least: Any, few: NDArray[np.int64]) -> int:
    """Put down which of logits [V] are as high, in their order; how many, or -1 where there might not be room."""
    many = 0
    for begin in range(0, len(row), BLOCK):
        block = row[begin : begin + BLOCK]
        if reaches(block, least):
            if many + len(block) > len(few):
                return -1
            for at in range(len(block)):
                few[many] = begin + at
                many += number(block, at) >= least
    return many

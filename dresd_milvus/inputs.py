"""What a forward pass over a draft tree takes: ids, positions and the mask, in buffers that outlive the step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.compiled import compiled
from dresd_milvus.tree import DraftTree, Int32

BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers as wide as a mask's numbers, which may be of a kind that numpy does not have."""


class Inputs(NamedTuple):
    """ids, positions: int64 [1, N]. mask: additive [1, 1, N, rows of the cache that are looked at], 0 for what a node
    sees and the lowest number elsewhere; None: each sees all before it. Good until the next step's."""

    ids: Tensor
    positions: Tensor
    mask: Tensor | None


class TreeInputs:
    """Makes the inputs of one step after the other.

    All steps share one mask, whose columns are the rows of the cache: the text's are 0 and stay so, and a step writes
    only the square of its own nodes. staged: the square is laid out beside the mask and copied, with ids and positions,
    nobody waiting for it; else the host writes where the model reads, which it can where they share their memory.
    """

    def __init__(
        self, device: torch.device, dtype: torch.dtype, staged: bool, nodes: int = 80, length: int = 512
    ) -> None:
        self.device, self.dtype, self.staged = device, dtype, staged
        self._bits = BITS[dtype.itemsize]
        self._lowest = int(torch.tensor(torch.finfo(dtype).min, dtype=dtype).view(self._bits))
        self._make(nodes, length)

    def _make(self, nodes: int, length: int) -> None:
        self._room, self._length = nodes, length
        self._mask = torch.zeros(nodes, length, dtype=self.dtype, device=self.device)
        self._strides = (nodes * length, nodes * length, length, 1)
        self._square = (0, 0)  # its first column and its size
        pinned = self.device.type == "cuda"
        self._numbers = torch.zeros(2, 1, nodes, dtype=torch.int64, pin_memory=pinned)
        self._shown: dict[int, tuple[Tensor, Tensor]] = {}  # their first so many, where the model reads them
        stage = torch.zeros(nodes, nodes, dtype=self.dtype, pin_memory=pinned) if self.staged else self._mask
        self._laid = stage
        self._host: tuple[NDArray[Any], NDArray[Any]] = (self._numbers[:, 0].numpy(), stage.view(self._bits).numpy())

    def of(self, tree: DraftTree, start: int) -> Inputs:
        """The inputs of a tree whose root lies behind `start` committed tokens: nodes see these and their ancestors, a
        lone root all (no mask)."""
        size = len(tree.tokens)
        end = start + size
        if size > self._room or end > self._length:
            self._make(max(size, self._room), max(2 * self._length, end))
        old, self._square = self._square, (start, size) if size > 1 else self._square
        if self.staged:
            ids, positions = self._copy(tree, start, old)
        else:
            _lay_out(tree.tokens, tree.parents, start, *self._host, *old, start, self._lowest)
            ids, positions = self._first(size)
        mask = self._mask.as_strided((1, 1, size, end), self._strides) if size > 1 else None
        return Inputs(ids, positions, mask)

    def _first(self, size: int) -> tuple[Tensor, Tensor]:
        """Ids and positions, each [1, size]: made once for every size, for a view costs as much as filling it."""
        if size not in self._shown:
            ids, positions = self._numbers.unbind()
            self._shown[size] = ids.narrow(1, 0, size), positions.narrow(1, 0, size)
        return self._shown[size]

    def _copy(self, tree: DraftTree, start: int, old: tuple[int, int]) -> tuple[Tensor, ...]:
        """Ids and positions, each [1, size], where the model is, and the mask there brought up to date. old: the square
        to be cleared."""
        size = len(tree.tokens)
        _lay_out(tree.tokens, tree.parents, start, *self._host, 0, size, 0, self._lowest)
        if size > 1:
            self._mask[: old[1], old[0] : sum(old)] = 0
            self._mask[:size, start : start + size].copy_(self._laid[:size, :size], non_blocking=True)
        return self._numbers.to(self.device, non_blocking=True).narrow(2, 0, size).unbind()


@compiled
def _lay_out(
    tokens: Int32,
    parents: Int32,
    start: int,
    numbers: NDArray[np.int64],
    mask: NDArray[Any],
    old: int,
    old_size: int,
    column: int,
    lowest: int,
) -> None:
    """Write ids and positions into numbers [2, nodes], and the square of a tree of several nodes into mask [nodes,
    length] from a column on, the old one being cleared."""
    size = len(tokens)
    for node in range(size):
        numbers[0, node] = tokens[node]
        numbers[1, node] = start if node == 0 else numbers[1, parents[node]] + 1
    if size == 1:
        return
    mask[:old_size, old : old + old_size] = 0
    for node in range(size):
        mask[node, column : column + size] = lowest
        above = node
        while above >= 0:
            mask[node, column + above] = 0
            above = parents[above]

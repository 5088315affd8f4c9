"""Forward passes of few fixed shapes, which a GPU replays as CUDA graphs instead of being given kernel by kernel.

A small step keeps a GPU busy for less time than a host needs to launch its kernels. A captured pass is launched at
once, but always computes the same shapes at the same places: so trees are filled up to a few sizes, caches are looked
at up to powers of two, and the mask hides what is not there. A tree between two sizes costs what the larger does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.errors import InputError
from dresd_milvus.target.cache import TreeCache
from dresd_milvus.target.tree_mask import Inputs, Windows, tree_inputs

Made = TypeVar("Made")

SIZES = (1, 9, 17, 33, 65)
"""Nodes, the root among them: the sizes that a budget knows the costs of and chooses from."""

SHORTEST = 256
"""Rows of the cache that a pass looks at, at least."""

WARM_UPS = 2
"""Passes before one is captured: libraries choose their kernels and take their memory at the first."""


class _Pass(NamedTuple):
    """One shape's inputs, which stay where they are, and what makes of them logits [S, V] and hidden [S, H].

    numbers: int64 [3, 1, S], ids, positions, and where keys and values go in the cache. masks: each [1, 1, S, L].
    """

    numbers: Tensor
    masks: dict[str, Tensor]
    run: Callable[[], Scored]


class FixedPasses:
    """Runs a model's forward pass in fixed shapes. capture: as CUDA graphs, each made when its shape first comes.

    forward: one pass over N tokens behind the committed text, through the cache. What is returned is good until the
    next pass, rows of it that share its memory included, but for the states, which the next draft is asked with.
    """

    def __init__(
        self,
        forward: Callable[[Inputs], Scored],
        cache: TreeCache,
        windows: Windows,
        device: torch.device,
        dtype: torch.dtype,
        capture: bool,
    ) -> None:
        self._forward, self._cache, self._windows, self.capture = forward, cache, windows, capture
        self._device, self._dtype = device, dtype
        self._passes: dict[tuple[int, int], _Pass] = {}
        self._capacity = 0

    def fit(self, tree: DraftTree) -> bool:
        """Whether there is a size for this tree, and a cache, which comes with the first pass."""
        return len(tree.tokens) <= SIZES[-1] and self._cache.capacity > 0

    def __call__(self, tree: DraftTree, start: int) -> Scored:
        """Logits [N, V] and hidden [N, H] of a tree behind `start` committed tokens."""
        count = len(tree.tokens)
        size = next(size for size in SIZES if size >= count)
        made = self._pass(size, max(SHORTEST, 1 << (start + size - 1).bit_length()))
        numbers, masks = made.numbers, made.masks
        ids, positions, seen = tree_inputs(tree, start, self._windows, self._device, self._dtype)
        assert seen is not None
        numbers.zero_()
        numbers[0, :, :count], numbers[1, :, :count] = ids, positions
        numbers[2, 0] = torch.arange(start, start + size, device=self._device)
        for kind, mask in masks.items():
            mask.fill_(torch.finfo(mask.dtype).min)
            mask[:, :, count:] = 0  # nodes that are not there see anything rather than nothing, which may be no number
            mask[:, :, :count, : start + count] = seen[kind]
        scored = made.run()
        return Scored(scored.logits[:count], scored.hidden[:count].clone())

    def _pass(self, size: int, length: int) -> _Pass:
        """The pass of this shape; all are made anew when the cache has moved."""
        self._cache.reserve(length)
        if self._cache.capacity != self._capacity:
            self._passes.clear()
            self._capacity = self._cache.capacity
        if (size, length) not in self._passes:
            where = self._device
            numbers = torch.zeros(3, 1, size, dtype=torch.int64, device=where)
            # Where the passes before and while one is captured write: behind all that is committed.
            numbers[2, 0] = torch.arange(length - size, length, device=where)
            masks = {kind: torch.zeros(1, 1, size, length, dtype=self._dtype, device=where) for kind in self._windows}
            inputs = Inputs(numbers[0], numbers[1], masks)

            def forward() -> Scored:
                with self._cache.fixed(numbers[2, 0], length):
                    return self._forward(inputs)

            run = captured(forward, where) if self.capture else forward
            self._passes[size, length] = _Pass(numbers, masks, run)
        return self._passes[size, length]


def captured(forward: Callable[[], Made], device: torch.device) -> Callable[[], Made]:
    """The same as a CUDA graph: its kernels are launched together, what they give is always at the same place.

    Raises InputError for a model whose pass waits for the device, which cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.device(device):
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(WARM_UPS):
                    forward()
            torch.cuda.current_stream().wait_stream(beside)
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # a search may be under way beside
                made = forward()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"this model's pass cannot be captured as a CUDA graph ({reason}); leave out --graphs"
        ) from error

    def replay() -> Made:
        graph.replay()
        return made

    return replay

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

from dresd_milvus.cache import TreeCache
from dresd_milvus.errors import InputError
from dresd_milvus.host import Scored
from dresd_milvus.inputs import Inputs, TreeInputs
from dresd_milvus.tree import DraftTree

Made = TypeVar("Made")

SIZES = (1, 9, 17, 33, 65)
"""Nodes, the root among them: the sizes that a budget knows the costs of and chooses from."""

SHORTEST = 256
"""Rows of the cache that a pass looks at, at least."""

WARM_UPS = 2
"""Passes before one is captured: libraries choose their kernels and take their memory at the first."""


class _Pass(NamedTuple):
    """One shape's inputs, which stay where they are, and what makes of them logits [S, V] and hidden [S, H].

    numbers: int64 [3, 1, S], ids, positions, and where keys and values go in the cache. mask: [1, 1, S, L].
    """

    numbers: Tensor
    mask: Tensor
    run: Callable[[], Scored]


class FixedPasses:
    """Runs a model's forward pass in fixed shapes. capture: as CUDA graphs, each made when its shape first comes.

    forward: one pass over N tokens behind the committed text, through the cache. What is returned is good until the
    next pass, but for the states, which the next draft is asked with.
    """

    def __init__(
        self,
        forward: Callable[[Inputs], Scored],
        cache: TreeCache,
        device: torch.device,
        dtype: torch.dtype,
        capture: bool,
    ) -> None:
        self._forward, self._cache, self._capture = forward, cache, capture
        self._inputs = TreeInputs(device, dtype, staged=device.type != "cpu")
        self._places = torch.arange(SIZES[-1], device=device)
        self._passes: dict[tuple[int, int], _Pass] = {}
        self._held: Tensor | None = None
        self._device, self._dtype = device, dtype

    def fit(self, tree: DraftTree) -> bool:
        """Whether there is a size for this tree, and a cache, which comes with the first pass."""
        return len(tree.tokens) <= SIZES[-1] and self._cache.held is not None

    def __call__(self, tree: DraftTree, start: int) -> Scored:
        """Logits [N, V] and hidden [N, H] of a tree behind `start` committed tokens."""
        count = len(tree.tokens)
        size = next(size for size in SIZES if size >= count)
        made = self._pass(size, max(SHORTEST, 1 << (start + size - 1).bit_length()))
        ids, positions, mask = self._inputs.of(tree, start)
        made.numbers.zero_()
        made.numbers[0, :, :count], made.numbers[1, :, :count] = ids, positions
        torch.add(self._places[:size], start, out=made.numbers[2, 0])
        made.mask.fill_(torch.finfo(self._dtype).min)
        made.mask[..., :start] = 0
        made.mask[:, :, count:] = 0  # nodes that are not there see anything rather than nothing, which may be no number
        made.mask[:, :, :count, start : start + count] = 0 if mask is None else mask[..., start:]
        scored = made.run()
        return Scored(scored.logits[:count], scored.hidden[:count].clone())

    def _pass(self, size: int, length: int) -> _Pass:
        """The pass of this shape; all are made anew when the cache has moved."""
        if self._cache.reserve(length) is not self._held:
            self._passes.clear()
            self._held = self._cache.held
        if (size, length) not in self._passes:
            numbers = torch.zeros(3, 1, size, dtype=torch.int64, device=self._device)
            # Where the passes before and while one is captured write: behind all that is committed.
            numbers[2, 0] = self._places[:size] + (length - size)
            mask = torch.zeros(1, 1, size, length, dtype=self._dtype, device=self._device)
            inputs = Inputs(numbers[0], numbers[1], mask)

            def forward() -> Scored:
                with self._cache.fixed(numbers[2, 0], length):
                    return self._forward(inputs)

            run = captured(forward, self._device) if self._capture else forward
            self._passes[size, length] = _Pass(numbers, mask, run)
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

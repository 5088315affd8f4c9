"""Forward passes of a few fixed shapes, which a GPU replays as CUDA graphs.

In a small step the CPU needs longer to launch a model's kernels one by one than the GPU needs to run them. A CUDA graph
launches all kernels of a captured pass at once, but always computes the same shapes at the same addresses. Therefore
trees are padded to one of a few sizes, the pass attends to a power of two of cache rows, and the mask hides the
padding. A tree between two sizes costs as much as the larger size.
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
from dresd_milvus.target.tree_mask import ModelInputs, Windows, tree_inputs

Result = TypeVar("Result")

SIZES = (1, 9, 17, 33, 65)
"""Nodes of a padded tree, the root included. Step costs are learned for the same sizes (see step_costs)."""

MIN_CACHE_ROWS = 256
"""The fewest cache rows that a pass attends to."""

WARM_UPS = 2
"""Passes before one is captured: in the first, libraries select kernels and allocate memory."""


class _StaticPass(NamedTuple):
    """A pass over S nodes and L cache rows. Its input tensors stay at their addresses; `run` computes its output.

    numbers: int64 [3, 1, S]: ids, positions, and the cache rows that keys and values are written to.
    masks: by kind of layer, [1, 1, S, L]. run: returns logits [S, V] and hidden states [S, H].
    """

    numbers: Tensor
    masks: dict[str, Tensor]
    run: Callable[[], Scored]


class CudaGraphRunner:
    """Verifies trees by passes of fixed shapes, one for each pair of tree size and number of cache rows.

    forward: the model's forward pass, which writes to `cache`. windows: see tree_mask. device, dtype: of the model.
    capture: whether passes become CUDA graphs when their shape first occurs; without it they run as usual, which
    tests on a CPU use.
    """

    def __init__(
        self,
        forward: Callable[[ModelInputs], Scored],
        cache: TreeCache,
        windows: Windows,
        device: torch.device,
        dtype: torch.dtype,
        capture: bool,
    ) -> None:
        self._forward, self._cache, self._windows, self.capture = forward, cache, windows, capture
        self._device, self._dtype = device, dtype
        self._passes: dict[tuple[int, int], _StaticPass] = {}
        self._capacity = 0

    def fits(self, tree: DraftTree) -> bool:
        """Whether this tree can be verified here: it is not too large, and the cache is allocated (by a first pass)."""
        return len(tree.tokens) <= SIZES[-1] and self._cache.capacity > 0

    def __call__(self, tree: DraftTree, start: int) -> Scored:
        """Logits [N, V] and hidden states [N, H] of a tree of N nodes behind `start` committed tokens.

        The next call overwrites the logits, but not the hidden states: the next draft is made from them.
        Raises InputError for a model that cannot be captured, see `capture_graph`.
        """
        count = len(tree.tokens)
        size = next(size for size in SIZES if size >= count)
        static = self._static_pass(size, max(MIN_CACHE_ROWS, 1 << (start + size - 1).bit_length()))
        numbers, masks = static.numbers, static.masks
        ids, positions, tree_masks = tree_inputs(tree, start, self._windows, self._device, self._dtype)
        assert tree_masks is not None
        numbers.zero_()
        numbers[0, :, :count], numbers[1, :, :count] = ids, positions
        numbers[2, 0] = torch.arange(start, start + size, device=self._device)
        for kind, mask in masks.items():
            mask.fill_(torch.finfo(mask.dtype).min)
            mask[:, :, count:] = 0  # padding attends to everything: attention to nothing may compute NaN
            mask[:, :, :count, : start + count] = tree_masks[kind]
        scored = static.run()
        return Scored(scored.logits[:count], scored.hidden[:count].clone())

    def _static_pass(self, size: int, length: int) -> _StaticPass:
        """The pass over `size` nodes and `length` cache rows. All are made again when the cache has a new address."""
        self._cache.reserve(length)
        if self._cache.capacity != self._capacity:
            self._passes.clear()
            self._capacity = self._cache.capacity
        if (size, length) not in self._passes:
            device = self._device
            numbers = torch.zeros(3, 1, size, dtype=torch.int64, device=device)
            # Warm-up and capture write to the last rows, behind all that is committed.
            numbers[2, 0] = torch.arange(length - size, length, device=device)
            masks = {kind: torch.zeros(1, 1, size, length, dtype=self._dtype, device=device) for kind in self._windows}
            inputs = ModelInputs(numbers[0], numbers[1], masks)

            def forward() -> Scored:
                with self._cache.static_shapes(numbers[2, 0], length):
                    return self._forward(inputs)

            run = capture_graph(forward, device) if self.capture else forward
            self._passes[size, length] = _StaticPass(numbers, masks, run)
        return self._passes[size, length]


def capture_graph(forward: Callable[[], Result], device: torch.device) -> Callable[[], Result]:
    """Capture a function as a CUDA graph; returns a function that replays it into the same output tensors.

    Raises InputError for a model whose forward pass waits for the device, which cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.device(device):
            warm_up = torch.cuda.Stream()
            warm_up.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(warm_up):
                for _ in range(WARM_UPS):
                    forward()
            torch.cuda.current_stream().wait_stream(warm_up)
            # Other threads may use CUDA meanwhile (a search in the background), hence thread_local.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                result = forward()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"this model's forward pass cannot be captured as a CUDA graph ({reason}); leave out --graphs"
        ) from error

    def replay() -> Result:
        graph.replay()
        return result

    return replay

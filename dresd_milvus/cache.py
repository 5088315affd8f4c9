"""A key-value cache for tree verification: preallocated, written in place, cut back to the accepted path.

All layers share one tensor, so that keeping a path is one gather and one write whatever the number of layers.
It speaks the cache interface of transformers and is only ever handed to a model's forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from dresd_milvus.compiled import compiled
from dresd_milvus.errors import InputError
from dresd_milvus.tree import Int64


class TreeCache(Cache):
    """Keys and values [2, layers, heads, capacity, head dim] of a batch of one.

    `length` rows are committed; a forward pass over n tokens writes its rows behind them, and `keep` commits those
    that were accepted. Sized from the first key tensor (tensor parallelism may split heads unevenly) and doubled
    when a text outgrows it.
    """

    def __init__(self, layers: int, capacity: int = 512) -> None:
        super().__init__(layers=[_Layer(self, index) for index in range(layers)])
        self.length = 0
        self.capacity = capacity
        self.held: Tensor | None = None
        self._fixed: tuple[Tensor, int] | None = None
        self._rows: NDArray[np.uint8] | None = None  # the same memory as bytes [2 * layers * heads, capacity, row]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys, values [1, heads, n, dim] behind the committed rows; views [1, heads, length + n, dim]."""
        begin, count = self.length, keys.shape[2]
        if self.held is None or begin + count > self.capacity:
            self._grow(begin + count, keys)
        own_keys, own_values = self._views[layer]
        if self._fixed is not None:
            rows, shown = self._fixed
            own_keys.index_copy_(2, rows, keys)
            own_values.index_copy_(2, rows, values)
            return own_keys.narrow(2, 0, shown), own_values.narrow(2, 0, shown)
        if own_keys.shape[1] != keys.shape[1] or own_keys.shape[3] != keys.shape[3]:
            raise InputError("this model's layers differ in their attention heads; it is not supported")
        own_keys.narrow(2, begin, count).copy_(keys)
        own_values.narrow(2, begin, count).copy_(values)
        return own_keys.narrow(2, 0, begin + count), own_values.narrow(2, 0, begin + count)

    def keep(self, path: Int64) -> None:
        """Commit the rows of these nodes [n] (ascending, 0 first) of the last pass, moved together; drop the rest."""
        assert self.held is not None
        size = len(path)
        if path[-1] != size - 1:  # ascending, so anything but 0, 1, 2, ... has gaps to close
            if self._rows is not None:
                _close_gaps(self._rows, path, self.length)
            else:
                self._gather(torch.from_numpy(path).to(self.held.device) + self.length)
        self.length += size

    @torch.inference_mode()
    def _gather(self, rows: Tensor) -> None:
        """Move these rows, int64 [n], behind the committed ones."""
        assert self.held is not None
        self.held[:, :, :, self.length : self.length + len(rows)] = self.held.index_select(3, rows)

    @contextmanager
    def fixed(self, rows: Tensor, shown: int) -> Iterator[None]:
        """Passes write at these rows, int64 [n], wherever the committed ones end, and see the first `shown` rows."""
        self._fixed = rows, shown
        try:
            yield
        finally:
            self._fixed = None

    def reserve(self, length: int) -> Tensor | None:
        """What is held, after making room for so many rows; None before the first pass."""
        if self.held is not None and length > self.capacity:
            self._grow(length, self.held[0, :1])
        return self.held

    def _grow(self, needed: int, like: Tensor) -> None:
        while self.capacity < needed:
            self.capacity *= 2
        new = like.new_zeros(2, len(self.layers), like.shape[1], self.capacity, like.shape[3])
        if self.held is not None:
            # Layers before this one have already written the rows of the running pass.
            new[:, :, :, : self.held.shape[3]] = self.held
        self.held = new
        self._views = [(new[0, layer, None], new[1, layer, None]) for layer in range(len(self.layers))]
        if new.device.type == "cpu":
            self._rows = new.view(torch.uint8).numpy().reshape(-1, self.capacity, like.shape[3] * like.itemsize)


@compiled
def _close_gaps(rows: NDArray[np.uint8], path: Int64, start: int) -> None:
    """Move the rows start + path to start, start + 1, ... of every head; the path ascends, so none is lost."""
    for head in range(len(rows)):
        for to in range(len(path)):
            if path[to] != to:
                rows[head, start + to] = rows[head, start + path[to]]


class _Layer(CacheLayerMixin):
    """One layer's window on the shared cache."""

    is_sliding = False

    def __init__(self, cache: TreeCache, index: int) -> None:
        super().__init__()
        self.cache, self.index = cache, index

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self.cache.write(self.index, key_states, value_states)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        pass

    def get_seq_length(self) -> int:
        return self.cache.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.length + query_length, 0

    def get_max_length(self) -> int:
        return -1

"""The key-value cache of the target: allocated ahead, written in place, reduced to the accepted path after a step.

A forward pass over a tree of n nodes writes n rows of keys and values behind the committed ones. `commit` moves the
rows of the accepted nodes together; the next pass overwrites the rest. The cache has the interface of transformers'
`Cache`, and is only passed to a model's forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from dresd_milvus.decoding.tree import Int64

CAPACITY = 512
"""Rows that a layer first allocates. A layer that is full doubles its rows."""


class TreeCache(Cache):
    """Keys and values of all layers for one text (a batch of one).

    length: committed rows, one a token. static_rows: see `static_shapes`.
    """

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[_Layer(self) for _ in range(layers)])
        self.length = 0
        self.static_rows: tuple[Tensor, int] | None = None

    @torch.inference_mode()
    def commit(self, path: Int64) -> None:
        """Commit the rows of these nodes of the last pass and drop its other rows.

        path: int64 [n], ascending, beginning with 0 (the root).
        """
        if path[-1] != len(path) - 1:  # ascending, so every path but 0, 1, 2, ... has gaps
            rows = self.length + torch.from_numpy(path)
            for layer in self.layers:
                if layer.keys is not None:
                    rows = rows.to(layer.keys.device)  # copied once; for the other layers of a device this does nothing
                    layer.move(rows, self.length)
        self.length += len(path)

    @contextmanager
    def static_shapes(self, rows: Tensor, shown: int) -> Iterator[None]:
        """Within the block, passes write to these rows and attend to the first `shown` rows, whatever `length` is.

        rows: int64 [n], on the device of the cache, where a CUDA graph reads them anew at each replay.
        """
        self.static_rows = rows, shown
        try:
            yield
        finally:
            self.static_rows = None

    @property
    def capacity(self) -> int:
        """Rows that are allocated, 0 before the first pass. When it changes, keys and values have a new address."""
        return max(layer.capacity for layer in self.layers)

    def reserve(self, length: int) -> None:
        """Allocate at least this number of rows in every layer that has had its first pass."""
        for layer in self.layers:
            layer.reserve(length)


class _Layer(CacheLayerMixin):
    """Keys [1, heads, capacity, key width] and values [1, heads, capacity, value width] of one layer.

    The first rows that are written set heads and widths, because layers may differ, and tensor parallelism may split
    heads unevenly. A layer that shares the keys of another is never written.
    """

    is_sliding = False
    keys: Any
    values: Any

    def __init__(self, cache: TreeCache) -> None:
        super().__init__()
        self.cache = cache

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write keys and values [1, heads, n, width] behind the committed rows; returns views of all rows so far."""
        start = self.cache.length
        end = start + key_states.shape[2]
        if self.keys is None:
            self.keys, self.values = (_zeros(CAPACITY, new) for new in (key_states, value_states))
        self.reserve(end)
        shown = []
        for stored, new in ((self.keys, key_states), (self.values, value_states)):
            if self.cache.static_rows is None:
                stored[:, :, start:end] = new
                shown.append(stored[:, :, :end])
            else:
                rows, count = self.cache.static_rows
                stored.index_copy_(2, rows, new)
                shown.append(stored[:, :, :count])
        return shown[0], shown[1]

    @property
    def capacity(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]

    def reserve(self, length: int) -> None:
        """Allocate at least this number of rows, unless nothing was written yet; what is stored is copied."""
        size = self.capacity
        if not 0 < size < length:
            return
        while size < length:
            size *= 2
        for name in ("keys", "values"):
            stored = getattr(self, name)
            larger = _zeros(size, stored)
            larger[:, :, : stored.shape[2]] = stored
            setattr(self, name, larger)

    def move(self, rows: Tensor, to: int) -> None:
        """Copy these rows, int64 [n], to the rows `to`, `to` + 1, ..."""
        for stored in (self.keys, self.values):
            stored[:, :, to : to + len(rows)] = stored.index_select(2, rows)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        pass

    def get_seq_length(self) -> int:
        return self.cache.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.length + query_length, 0

    def get_max_length(self) -> int:
        return -1


def _zeros(rows: int, like: Tensor) -> Tensor:
    """Zeros [1, heads, rows, width] with heads, width, dtype and device of `like` [1, heads, n, width]."""
    return like.new_zeros(*like.shape[:2], rows, like.shape[3])

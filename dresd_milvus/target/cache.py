"""A key-value cache for tree verification: preallocated, written in place, cut back to the accepted path.

It speaks the cache interface of transformers and is only ever handed to a model's forward pass.
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
"""Rows that a layer begins with; doubled when a text outgrows them."""


class TreeCache(Cache):
    """The keys and values of every layer, of a batch of one.

    `length` rows are committed; a forward pass over n tokens writes its rows behind them, and `keep` commits those
    that were accepted.
    """

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[_Layer(self) for _ in range(layers)])
        self.length = 0
        self.place: tuple[Tensor, int] | None = None

    @torch.inference_mode()
    def keep(self, path: Int64) -> None:
        """Commit the rows of these nodes [n] (ascending, 0 first) of the last pass; drop the rest."""
        if path[-1] != len(path) - 1:  # ascending, so anything but 0, 1, 2, ... has gaps to close
            rows = self.length + torch.from_numpy(path)
            for layer in self.layers:
                if layer.keys is not None:
                    rows = rows.to(layer.keys.device)  # once; the layers after the first find them there
                    layer.move(rows, self.length)
        self.length += len(path)

    @contextmanager
    def fixed(self, rows: Tensor, shown: int) -> Iterator[None]:
        """Passes write at these rows, int64 [n], wherever the committed ones end, and see the first `shown` rows."""
        self.place = rows, shown
        try:
            yield
        finally:
            self.place = None

    @property
    def capacity(self) -> int:
        """Rows that there is memory for, 0 before the first pass. Another number: the memory has moved."""
        return max(layer.capacity for layer in self.layers)

    def reserve(self, length: int) -> None:
        """Make room for so many rows, where a first pass has been made."""
        for layer in self.layers:
            layer.reserve(length)


class _Layer(CacheLayerMixin):
    """Keys [1, heads, capacity, key width] and values [1, heads, capacity, value width] of one layer.

    Sized from its first rows: layers may differ, and tensor parallelism may split heads unevenly. A layer that takes
    its keys from another is never written.
    """

    is_sliding = False
    keys: Any
    values: Any

    def __init__(self, cache: TreeCache) -> None:
        super().__init__()
        self.cache = cache

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put keys and values [1, heads, n, width] behind the committed rows; views of them and all rows before."""
        start = self.cache.length
        end = start + key_states.shape[2]
        if self.keys is None:
            self.keys, self.values = (_room(CAPACITY, new) for new in (key_states, value_states))
        self.reserve(end)
        shown = []
        for held, new in ((self.keys, key_states), (self.values, value_states)):
            if self.cache.place is None:
                held[:, :, start:end] = new
                shown.append(held[:, :, :end])
            else:
                held.index_copy_(2, self.cache.place[0], new)
                shown.append(held[:, :, : self.cache.place[1]])
        return shown[0], shown[1]

    @property
    def capacity(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]

    def reserve(self, length: int) -> None:
        """Make room for so many rows."""
        size = self.capacity
        if not 0 < size < length:
            return
        while size < length:
            size *= 2
        for name in ("keys", "values"):
            held = getattr(self, name)
            grown = _room(size, held)
            grown[:, :, : held.shape[2]] = held
            setattr(self, name, grown)

    def move(self, rows: Tensor, to: int) -> None:
        """Move these rows, int64 [n], to `to` and behind it."""
        for held in (self.keys, self.values):
            held[:, :, to : to + len(rows)] = held.index_select(2, rows)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        pass

    def get_seq_length(self) -> int:
        return self.cache.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.length + query_length, 0

    def get_max_length(self) -> int:
        return -1


def _room(rows: int, like: Tensor) -> Tensor:
    """Zeros for so many rows of this kind."""
    return like.new_zeros(*like.shape[:2], rows, like.shape[3])

"""A key-value cache for tree verification: preallocated, written in place, cut back to the accepted path.

All layers share two tensors, so that keeping a path is two gathers and two writes whatever the number of layers.
It speaks the cache interface of transformers and is only ever handed to a model's forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from dresd_milvus.errors import InputError


class TreeCache(Cache):
    """Keys and values [layers, heads, capacity, head dim] of a batch of one.

    `length` rows are committed; a forward pass over n tokens writes its rows behind them, and `keep` commits those
    that were accepted. Sized from the first key tensor (tensor parallelism may split heads unevenly) and doubled
    when a text outgrows it.
    """

    def __init__(self, layers: int, capacity: int = 512) -> None:
        super().__init__(layers=[_Layer(self, index) for index in range(layers)])
        self.length = 0
        self.capacity = capacity
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys, values [1, heads, n, dim] behind the committed rows; views [1, heads, length + n, dim]."""
        end = self.length + keys.shape[-2]
        if self.keys is None or self.values is None or end > self.capacity:
            self._grow(end, keys, values)
        assert self.keys is not None and self.values is not None
        if self.keys.shape[1] != keys.shape[1] or self.keys.shape[3] != keys.shape[3]:
            raise InputError("this model's layers differ in their attention heads; it is not supported")
        self.keys[layer, :, self.length : end] = keys[0]
        self.values[layer, :, self.length : end] = values[0]
        return self.keys[layer, None, :, :end], self.values[layer, None, :, :end]

    def keep(self, path: Sequence[int]) -> None:
        """Commit the rows of these nodes (ascending, 0 first) of the last pass, moved together; drop the rest."""
        assert self.keys is not None and self.values is not None
        size = len(path)
        if path[-1] != size - 1:  # ascending, so anything but 0, 1, 2, ... has gaps to close
            rows = torch.tensor(path, device=self.keys.device) + self.length
            for held in (self.keys, self.values):
                held[:, :, self.length : self.length + size] = held.index_select(2, rows)
        self.length += size

    def _grow(self, needed: int, keys: Tensor, values: Tensor) -> None:
        while self.capacity < needed:
            self.capacity *= 2
        grown = []
        for old, like in ((self.keys, keys), (self.values, values)):
            new = like.new_empty(len(self.layers), like.shape[1], self.capacity, like.shape[3])
            if old is not None:
                # Layers before this one have already written the rows of the running pass.
                new[:, :, : old.shape[2]] = old
            grown.append(new)
        self.keys, self.values = grown


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

"""The key-value cache against lists of numbers: what is written, seen, kept and moved."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dresd_milvus.target.cache import TreeCache

LAYERS, HEADS = 2, 3


def states(numbers: list[int], width: int, layer: int) -> Tensor:
    """Keys or values [1, HEADS, n, width] that tell rows, heads and layers apart."""
    rows = torch.tensor(numbers, dtype=torch.float64)[None, None, :, None]
    heads = torch.arange(HEADS)[None, :, None, None]
    return (1000 * layer + 100 * heads + rows).expand(1, HEADS, len(numbers), width)


def written(cache: TreeCache, numbers: list[int]) -> list[tuple[Tensor, Tensor]]:
    """What every layer sees when a pass writes these rows; keys and values are of unlike width."""
    return [cache.update(states(numbers, 4, layer), -states(numbers, 2, layer), layer) for layer in range(LAYERS)]


def assert_seen(seen: list[tuple[Tensor, Tensor]], numbers: list[int]) -> None:
    for layer, (keys, values) in enumerate(seen):
        assert torch.equal(keys, states(numbers, 4, layer)) and torch.equal(values, -states(numbers, 2, layer))


@given(st.data())
def test_a_pass_sees_what_was_kept_and_itself(data: st.DataObject) -> None:
    """However much memory there is at first, and whichever nodes of a pass are kept."""
    with patch("dresd_milvus.target.cache.CAPACITY", data.draw(st.sampled_from([1, 4, 512]))):
        cache, committed, number = TreeCache(LAYERS), [], 0
        assert cache.capacity == cache.length == 0
        for _ in range(data.draw(st.integers(1, 6))):
            new = list(range(number, number + data.draw(st.integers(1, 7))))
            number = new[-1] + 1
            assert_seen(written(cache, new), committed + new)
            assert cache.capacity >= len(committed) + len(new)
            path = [0, *sorted(data.draw(st.sets(st.integers(1, max(len(new) - 1, 1)), max_size=4)))]
            path = [node for node in path if node < len(new)]
            cache.commit(np.array(path))
            committed += [new[node] for node in path]
            assert cache.length == cache.get_seq_length() == len(committed)


def test_memory_doubles_and_never_shrinks() -> None:
    with patch("dresd_milvus.target.cache.CAPACITY", 4):
        cache = TreeCache(LAYERS)
        cache.reserve(100)
        assert cache.capacity == 0, "before the first pass nobody knows how wide rows are"
        written(cache, [0, 1, 2])
        assert cache.capacity == 4
        cache.commit(np.arange(3))
        assert_seen(written(cache, [3, 4]), [0, 1, 2, 3, 4])
        assert cache.capacity == 8
        cache.reserve(33)
        assert cache.capacity == 64
        cache.length = 1
        assert_seen(written(cache, [9]), [0, 9])
        assert cache.capacity == 64


def test_a_pass_of_a_fixed_shape_writes_where_it_is_told_and_sees_as_far_as_that() -> None:
    cache = TreeCache(LAYERS)
    written(cache, [0, 1, 2])
    cache.commit(np.arange(2))
    with cache.static_shapes(torch.tensor([5, 3]), shown=6):
        for layer, (keys, _) in enumerate(written(cache, [7, 8])):
            assert keys.shape[2] == 6
            assert torch.equal(keys[:, :, [0, 1, 5, 3]], states([0, 1, 7, 8], 4, layer))
    assert_seen(written(cache, [2]), [0, 1, 2])


@pytest.mark.parametrize("path", [[0], [0, 1, 2]])
def test_rows_that_are_where_they_belong_are_not_moved(path: list[int]) -> None:
    cache = TreeCache(LAYERS)
    written(cache, [0, 1, 2])
    before = [layer.keys.clone() for layer in cache.layers]
    cache.commit(np.array(path))
    assert all(torch.equal(layer.keys, held) for layer, held in zip(cache.layers, before, strict=True))
    assert cache.length == len(path)

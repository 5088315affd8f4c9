"""REST: what followed the longest match, by how often it did."""

from pathlib import Path

import numpy as np
import pytest

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.drafters.rest import MAX_DEPTH, Rest
from dresd_milvus.retrieval.suffix_store import SuffixStore


@pytest.fixture
def store(tmp_path: Path) -> SuffixStore:
    texts = [[7, 1, 2, 3, 4], [8, 1, 2, 3, 5], [9, 1, 2, 3, 5], [6, *range(20, 60)]]
    return SuffixStore.build(tmp_path / "suffixes", [np.array(text, np.int32) for text in texts])


def test_the_most_frequent_continuation_comes_first(store: SuffixStore) -> None:
    tree = Rest(store).draft(Context([0, 1, 2], None, 2, 4))
    assert tree.tokens.tolist() == [2, 3, 5] and tree.parents.tolist() == [-1, 0, 1]
    paths = Rest(store).propose(Context([0, 1, 2], None, 2, 4))
    assert sorted(paths.tokens[:, :2].tolist()) == [[3, 4], [3, 5], [3, 5]] and paths.weights.sum() == pytest.approx(1)


def test_a_longer_match_decides_alone(store: SuffixStore) -> None:
    assert Rest(store).draft(Context([7, 1, 2], None, 2, 4)).tokens.tolist() == [2, 3, 4]
    assert Rest(store, max_match=2).draft(Context([7, 1, 2], None, 2, 4)).tokens.tolist() == [2, 3, 5]


def test_a_match_may_have_to_be_longer(store: SuffixStore) -> None:
    """The published system does not match single tokens."""
    assert len(Rest(store).draft(Context([0, 3], None, 8, 4))) == 2
    assert len(Rest(store, min_match=2).draft(Context([0, 3], None, 8, 4))) == 0


def test_a_continuation_is_as_long_as_published(store: SuffixStore) -> None:
    assert Rest(store).draft(Context([6], None, 64, 64)).tokens.tolist() == [6, *range(20, 20 + MAX_DEPTH)]

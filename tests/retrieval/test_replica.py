"""The replica on disk: whole or not there, as small as promised, and the same whatever order rows come in."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.errors import StoreError
from dresd_milvus.retrieval.nearest import Keys
from dresd_milvus.retrieval.replica import Columns, Replica
from dresd_milvus.retrieval.store import Rows
from tests.oracle import example_manifest, example_rows


def batches(rows: Rows, size: int) -> Iterator[Rows]:
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        yield Rows(rows.pk[part], rows.vectors[part], rows.next_tokens[part], rows.origin)


def test_rows_are_grouped_by_first_token_in_the_order_of_keys(tmp_path: Path) -> None:
    rows = example_rows(200)
    built = [
        Replica.build(example_manifest(rows=200), batches(content, size), tmp_path / str(size))
        for content, size in ((rows, 7), (rows, 200))
    ]
    assert np.array_equal(built[0].rows.continuations, built[1].rows.continuations)
    order = np.lexsort((rows.pk, rows.next_tokens[:, 0]))
    np.testing.assert_array_equal(built[0].rows.continuations, rows.next_tokens[order])
    np.testing.assert_allclose(built[0].rows.keys.vectors(), rows.vectors[order], atol=2e-5)


def test_bytes_per_row(tmp_path: Path) -> None:
    rows = example_rows(5_000, dim=64, continuation=20, vocabulary=500)
    replica = Replica.build(example_manifest(64, 20, rows=5_000), batches(rows, 999), tmp_path / "r")
    files = sum(path.stat().st_size for path in (tmp_path / "r").iterdir())
    assert replica.nbytes / 5_000 <= 227 and files / 5_000 <= 227


ENTRIES = st.floats(-9, 9, width=32, allow_subnormal=False)


@settings(max_examples=200)
@given(
    vectors=npst.arrays(np.float32, st.tuples(st.integers(1, 60), st.just(6)), elements=ENTRIES),
    query=npst.arrays(np.float32, 6, elements=ENTRIES),
    most=st.integers(0, 12),
)
def test_a_search_finds_the_best_of_its_own_keys(vectors: Any, query: Any, most: int) -> None:
    """Scanning high bytes leaves out nothing: the scores are those of all keys, sorted."""
    keys = Keys.of(vectors)
    numbers = np.arange(len(vectors))
    columns = Columns(keys, numbers.astype(np.int32)[:, None], numbers, np.zeros(len(numbers), np.int32))
    replica = Replica(example_manifest(6, 1), columns, np.array([0, len(numbers)]))
    scores, pks, found = replica.search(query[None], None, most)
    assert pks.tolist() == found[:, :, 0].tolist()
    exact = keys.vectors().astype(np.float64) @ query
    best = np.sort(exact)[::-1][:most]
    np.testing.assert_allclose(scores[0, : len(best)], best, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(exact[found[0, : len(best), 0]], best, rtol=1e-4, atol=1e-3)
    assert len(set(found[0, : len(best), 0])) == len(best)


@pytest.mark.parametrize("there", [199, 201])
def test_a_wrong_number_of_rows_leaves_nothing(tmp_path: Path, there: int) -> None:
    with pytest.raises(StoreError, match=f"gave {there} rows and was sealed with 200"):
        Replica.build(example_manifest(rows=200), batches(example_rows(there), 50), tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Rows]:
        yield next(batches(example_rows(200), 50))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Replica.build(example_manifest(rows=200), interrupted(), tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_replica_is_refused(tmp_path: Path) -> None:
    Replica.build(example_manifest(rows=20), batches(example_rows(20), 5), tmp_path / "r")
    assert len(Replica.open(tmp_path / "r")) == 20
    (tmp_path / "r" / "high.npy").write_bytes(b"")
    with pytest.raises(StoreError, match="remove it and try again"):
        Replica.open(tmp_path / "r")


def test_an_empty_store_finds_nothing(tmp_path: Path) -> None:
    replica = Replica.build(replace(example_manifest(), rows=0), iter(()), tmp_path / "r")
    assert np.isneginf(replica.search(example_rows(1).vectors, np.array([3]), 5).scores).all()


@pytest.mark.parametrize(
    "name", ["continuations.npy", "high.npy", "starts.npy", "origin.npy", "origins.json", "manifest.json"]
)
def test_a_replica_with_a_flipped_byte_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """A token id that is none would end decoding, other damage would make drafts worse without a word."""
    rows = example_rows(30)
    Replica.build(example_manifest(rows=30), iter([rows]), tmp_path / "replica")
    path = tmp_path / "replica" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x41
    path.write_bytes(content)
    with pytest.raises(StoreError, match=rf"{name} is not as it was written\); remove it and try again"):
        Replica.open(tmp_path / "replica")

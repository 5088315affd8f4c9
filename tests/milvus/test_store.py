"""The embedded database: rows come back as they were written, and every error is one line."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus import MilvusStore, has_collection
from tests.oracle import MemoryStore, example_manifest, example_projection, example_rows


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "a.db")


def build(uri: str, name: str = "rows", count: int = 30) -> None:
    with MilvusStore.create(uri, name, example_manifest(), example_projection()) as store:
        store.write(example_rows(count))
        store.seal(store.manifest)


def by_key(store: MilvusStore) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    memory = MemoryStore(store.manifest)
    for rows in store.scan():
        memory.write(rows)
    return memory.rows


def test_rows_come_back_as_they_were_written(uri: str) -> None:
    build(uri)
    rows = example_rows(30)
    with MilvusStore.open(uri, "rows") as store:
        found = by_key(store)
        assert sorted(found) == sorted(rows.pk.tolist())
        for pk, vector, tokens in zip(rows.pk.tolist(), rows.vectors, rows.next_tokens, strict=True):
            np.testing.assert_array_equal(found[pk][0], vector)
            np.testing.assert_array_equal(found[pk][1], tokens)


def test_replacing_rows_neither_doubles_nor_loses_one(uri: str) -> None:
    rows = example_rows(30)
    with MilvusStore.create(uri, "rows", example_manifest(), example_projection()) as store:
        half = replace(
            rows, pk=rows.pk[:15], vectors=rows.vectors[:15], next_tokens=rows.next_tokens[:15], previews=None
        )
        store.write(half)
        store.write(rows, replace=True)
        assert store.seal(store.manifest).rows == 30
        assert len(by_key(store)) == 30


def test_the_projection_travels_with_the_database(uri: str) -> None:
    build(uri)
    with MilvusStore.open(uri, "rows") as store:
        assert store.projection().fingerprint == example_projection().fingerprint


def test_a_missing_database_is_not_made_by_asking(uri: str) -> None:
    assert not has_collection(uri, "rows")
    with pytest.raises(StoreError, match="there is no database"):
        MilvusStore.open(uri, "rows")
    assert not Path(uri).exists()


def test_a_missing_collection_names_those_that_are_there(uri: str) -> None:
    build(uri, "code")
    with pytest.raises(StoreError, match=r"no collection 'text' in .*\(there: code\)"):
        MilvusStore.open(uri, "text")


def test_a_taken_name_is_refused(uri: str) -> None:
    build(uri)
    with pytest.raises(StoreError, match="already in"):
        build(uri)


def test_a_collection_of_another_program_is_refused(uri: str) -> None:
    build(uri)
    with MilvusStore.open(uri, "rows") as store:
        store.client.create_collection("foreign", dimension=4)
    with pytest.raises(StoreError, match="not built by dresd-milvus"):
        MilvusStore.open(uri, "foreign")


def test_an_unsealed_collection_is_refused(uri: str) -> None:
    with MilvusStore.create(uri, "rows", example_manifest(), example_projection()) as store:
        store.write(example_rows(3))
        with pytest.raises(StoreError, match="not sealed"):
            store.require_sealed()


def test_an_address_that_is_neither_is_refused() -> None:
    with pytest.raises(StoreError, match=r"ends in \.db, or http"):
        MilvusStore.open("somewhere", "rows")


def test_a_database_held_by_another_process_is_one_clear_line(uri: str) -> None:
    build(uri)
    code = "import sys; from dresd_milvus.milvus import MilvusStore; MilvusStore.open(sys.argv[1], 'rows'); "
    code += "print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline().strip() == "open"
        with pytest.raises(StoreError, match="open in another process") as refused:
            MilvusStore.open(uri, "rows")
        assert "\n" not in str(refused.value)
    finally:
        holder.kill()
        holder.wait()
    MilvusStore.open(uri, "rows").close()

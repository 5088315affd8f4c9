"""What `dresd inspect` says of a collection."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from dresd_milvus.milvus import MilvusStore
from dresd_milvus.storage.inspection import inspect_store
from tests.oracle import example_manifest, example_projection, example_rows


def test_inspection_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    checksums = set()
    rows, order = example_rows(30), np.random.default_rng(1).permutation(30)
    shuffled = replace(rows, pk=rows.pk[order], vectors=rows.vectors[order], next_tokens=rows.next_tokens[order])
    for name, content in {"one": rows, "two": shuffled}.items():
        with MilvusStore.create(str(tmp_path / "a.db"), name, example_manifest(), example_projection()) as store:
            store.write(content)
            store.seal(store.manifest)
            found = inspect_store(store)
            checksums.add(found["checksum"])
            assert found["rows"] == 30 and found["index"]["index_type"] == "FLAT"
            assert "⟶" in found["sample"][0]["preview"]
    assert len(checksums) == 1


def test_another_continuation_changes_the_checksum(tmp_path: Path) -> None:
    checksums = []
    for name, seed in (("one", 0), ("two", 1)):
        with MilvusStore.create(str(tmp_path / "a.db"), name, example_manifest(), example_projection()) as store:
            store.write(replace(example_rows(9), next_tokens=example_rows(9, seed=seed).next_tokens))
            store.seal(store.manifest)
            checksums.append(inspect_store(store)["checksum"])
    assert checksums[0] != checksums[1]

"""A store that moves between databases as files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.storage.inspection import inspect_store
from dresd_milvus.storage.transfer import export_store, import_store
from tests.sealed import build_collection


@pytest.fixture
def lite(tmp_path: Path) -> str:
    return str(tmp_path / "lite.db")


@pytest.fixture
def exported(lite: str, tmp_path: Path) -> Iterator[Path]:
    with build_collection(lite, "rows", 300) as store:
        assert export_store(store, tmp_path / "export") == 300
        with pytest.raises(InputError, match="is there already"):
            export_store(store, tmp_path / "export")
        yield tmp_path / "export"


def test_a_store_moves_between_databases_row_for_row(exported: Path, database: str, lite: str) -> None:
    manifest = import_store(exported, database, "moved", index="HNSW", partition_by="source")
    with MilvusStore.open(lite, "rows") as before, MilvusStore.open(database, "moved") as after:
        there, here = inspect_store(before), inspect_store(after)
        assert here["checksum"] == there["checksum"] and here["rows"] == 300 == manifest.rows
        assert after.projection().fingerprint == before.projection().fingerprint
        old, new = ({row["pk"]: row for row in store.sample(300)} for store in (before, after))
        assert new == old
        vectors = [
            {pk: vector.tolist() for rows in store.scan() for pk, vector in zip(rows.pk, rows.vectors, strict=True)}
            for store in (before, after)
        ]
        assert vectors[0] == vectors[1]
    with pytest.raises(StoreError, match="already in"):
        import_store(exported, database, "moved")


def test_an_interrupted_import_goes_on(exported: Path, database: str) -> None:
    def interrupt(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_store(exported, database, "moved", progress=interrupt)
    with pytest.raises(StoreError, match="begun with other options"):
        import_store(exported, database, "moved", index="HNSW:M=32")
    assert import_store(exported, database, "moved").rows == 300


def test_files_that_were_changed_are_refused(exported: Path, tmp_path: Path) -> None:
    path = next(exported.glob("rows-*.parquet"))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StoreError, match=r"rows-00000\.parquet cannot be read"):
        import_store(exported, str(tmp_path / "b.db"), "moved")
    path.unlink()
    with pytest.raises(StoreError, match="not those that were exported"):
        import_store(exported, str(tmp_path / "c.db"), "moved")
    with pytest.raises(InputError, match="holds no exported store"):
        import_store(tmp_path, str(tmp_path / "d.db"), "moved")


def test_a_failed_export_leaves_nothing(lite: str, tmp_path: Path) -> None:
    def fail(rows: int) -> None:
        raise OSError("the disk is gone")

    with build_collection(lite, "rows") as store, pytest.raises(OSError, match="the disk is gone"):
        export_store(store, tmp_path / "export", fail)
    assert list(tmp_path.glob("export*")) == []

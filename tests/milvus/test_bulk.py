"""Bulk import into a real server: every row of a file arrives once, also after an interruption."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.milvus.bulk import BulkImport
from dresd_milvus.storage.inspection import Checksum
from dresd_milvus.storage.row_file import RowFile
from tests.milvus_server import MilvusServer
from tests.oracle import example_manifest, example_projection, example_rows

ROWS = 500


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "00003.parquet"
    with RowFile(path) as written:
        written.write(example_rows(ROWS))
    return path


def bucket_of(server: MilvusServer) -> str:
    return f"file://{server.folder}/data"


def content(store: MilvusStore) -> tuple[int, str, dict[int, list[float]]]:
    checksum, vectors = Checksum(), {}
    for rows in store.scan():
        checksum.add(rows)
        vectors.update(zip(rows.pk.tolist(), rows.vectors.tolist(), strict=True))
    return store.count(), checksum.hexdigest(), vectors


def test_imported_rows_are_those_that_an_insert_gives(milvus_server: MilvusServer, server_uri: str, file: Path) -> None:
    manifest = example_manifest()
    with MilvusStore.create(server_uri, "bulk", manifest, example_projection()) as store:
        BulkImport(store, bucket_of(milvus_server)).send(file, ROWS)
        store.seal(manifest, rows=ROWS)
        imported = content(store)
    with MilvusStore.create(server_uri, "inserted", manifest, example_projection()) as store:
        store.write(example_rows(ROWS))
        store.seal(manifest, rows=ROWS)
        inserted = content(store)
    assert imported[:2] == inserted[:2] and imported[2].keys() == inserted[2].keys()
    for pk, vector in inserted[2].items():
        np.testing.assert_allclose(imported[2][pk], vector, atol=1e-6)
    assert not list((milvus_server.folder / "data" / "dresd-import").iterdir())


def test_a_file_whose_job_is_there_is_not_imported_again(
    milvus_server: MilvusServer, server_uri: str, file: Path
) -> None:
    with MilvusStore.create(server_uri, "bulk", example_manifest(), example_projection()) as store:
        for _ in range(2):  # the second is a run that was killed before it could mark the shard as done
            BulkImport(store, bucket_of(milvus_server)).send(file, ROWS)
        store.seal(store.manifest, rows=ROWS)


def test_errors_of_an_import_are_one_line(milvus_server: MilvusServer, server_uri: str, tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"nothing of the kind")
    with MilvusStore.create(server_uri, "bulk", example_manifest(), example_projection()) as store:
        bulk = BulkImport(store, bucket_of(milvus_server))
        with pytest.raises(StoreError, match=r"could not import .*bad\.parquet"):
            bulk.send(tmp_path / "bad.parquet", 1)
        with pytest.raises(InputError, match=r"--bulk nowhere.* cannot be used"):
            BulkImport(store, "nowhere")
    by_source = replace(example_manifest(), partition_by="source")
    refused = pytest.raises(InputError, match="partitions that the server chooses")
    with MilvusStore.create(server_uri, "sources", by_source, example_projection()) as store, refused:
        BulkImport(store, bucket_of(milvus_server))
    lite = MilvusStore.create(str(tmp_path / "a.db"), "rows", example_manifest(), example_projection())
    with lite, pytest.raises(InputError, match="an embedded database has no bulk import"):
        BulkImport(lite, "file:///tmp")

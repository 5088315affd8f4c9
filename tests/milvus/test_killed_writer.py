"""kill -9 of a process whose rows have just been acknowledged: an embedded database has every one of them.

`make soak` does it to whole ingestions, 40 times (tests/ingestion/test_kills.py).
"""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from milvus_lite.storage.wal import WAL

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.storage.row_file import RowFile, read_rows
from tests.oracle import example_manifest, example_projection, example_rows

ROWS, SOURCES = 3_000, 8

SCRIPT = """
import sys, time
from pathlib import Path
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.storage.row_file import read_rows
store = MilvusStore.open(sys.argv[1], "rows")
for rows in read_rows(Path(sys.argv[2])):
    store.writer().send(rows)
store.writer().flush()
print("written", flush=True)
time.sleep(60)
"""


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """An embedded database with the empty collection 'rows'."""
    uri = str(tmp_path / "a.db")
    MilvusStore.create(uri, "rows", example_manifest(), example_projection()).close()
    return uri


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of several sources, of which each is a request of its own."""
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    with RowFile(path) as rows:
        for source in range(SOURCES):
            part = example_rows(ROWS, seed=source)
            rows.write(replace(part, pk=part.pk + (source << 50), origin=str(source)))
    return path


def test_one_request_is_written_at_a_time(uri: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, inside, met = WAL.write_insert, 0, []

    def slowly(log: WAL, batch: pa.RecordBatch) -> None:
        nonlocal inside
        met.append(inside)
        inside += 1
        time.sleep(0.02)
        write(log, batch)
        inside -= 1

    monkeypatch.setattr(WAL, "write_insert", slowly)
    with MilvusStore.open(uri, "rows") as store:
        for rows in read_rows(file):
            store.writer().send(rows)
        store.writer().flush()
    assert len(met) >= SOURCES and set(met) == {0}


@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.45])
def test_rows_that_were_written_outlive_their_writer(uri: str, file: Path, seconds: float) -> None:
    command = [sys.executable, "-c", SCRIPT, uri, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "written\n"
        time.sleep(seconds)
        process.kill()
    with MilvusStore.open(uri, "rows") as store:
        assert store.count() == ROWS * SOURCES


def test_half_an_index_is_built_again(uri: str) -> None:
    with MilvusStore.open(uri, "rows") as store:
        store.write(example_rows(300))
        store.seal(store.manifest)
    (index,) = Path(uri).glob("collections/rows/**/*.idx")
    index.write_bytes(index.read_bytes()[:1_000])
    with MilvusStore.open(uri, "rows") as store:
        assert store.count() == 300
        rows = example_rows(300)
        assert store.search(rows.vectors[:1], None, 1).continuations[0, 0].tolist() == rows.next_tokens[0].tolist()


def test_half_a_collection_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "a.db" / "collections" / "rows" / "wal").mkdir(parents=True)
    with MilvusStore.create(str(tmp_path / "a.db"), "rows", example_manifest(), example_projection()) as store:
        store.write(example_rows(3))
        assert store.count() == 3


def test_a_collection_that_cannot_be_read_is_named(uri: str) -> None:
    (Path(uri) / "collections" / "rows" / "schema.json").write_text("{")
    with pytest.raises(StoreError, match=r"^'rows' in .*a\.db cannot be read \(.*\); run its ingestion again$"):
        MilvusStore.open(uri, "rows")

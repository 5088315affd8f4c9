"""Workers, jobs and single phases build the same store as one command."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.progress import SILENT
from dresd_milvus.storage.inspection import inspect_store
from ingestion.planning.job import SINGLE_JOB, Job
from ingestion.run import Run
from tests.helpers import dresd, exit_code
from tests.milvus_server import MilvusServer
from tests.samples import write_corpus

Capture = pytest.CaptureFixture[str]
SMALL = ("--dim", "16", "--shard-size", "3000", "--dtype", "float32")


def rows(uri: Path) -> tuple[int, str]:
    with MilvusStore.open(str(uri), "code") as store:
        found = inspect_store(store.require_sealed())
    return found["rows"], found["checksum"]


def arguments(corpus: Path, uri: Path) -> tuple[str | Path, ...]:
    return ("--source", corpus, "--uri", uri, "--collection", "code", *SMALL)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("jobs") / "corpus.jsonl", 40)


@pytest.fixture(scope="module")
def whole(corpus: Path) -> tuple[int, str]:
    """Rows and checksum of the store that one undisturbed command builds."""
    uri = corpus.with_name("whole.db")
    assert exit_code("ingest", "run", *arguments(corpus, uri)) == 0
    return rows(uri)


def test_jobs_are_named_by_number_and_count() -> None:
    assert Job.parse("1/3") == Job(1, 3) and str(Job(1, 3)) == "1/3"
    for text in ("3/3", "1", "a/b", "-1/2", "1/0"):
        with pytest.raises(InputError, match="--shard"):
            Job.parse(text)


def test_every_phase_by_itself_by_workers_and_by_jobs(
    corpus: Path, tmp_path: Path, whole: tuple[int, str], capsys: Capture
) -> None:
    uri, run = tmp_path / "parts.db", ("--run-dir", tmp_path / "run")
    assert "run dresd ingest plan" in dresd(capsys, "ingest", "fit", *run).error
    planned = dresd(capsys, "ingest", "plan", *arguments(corpus, uri), *run)
    assert "40 documents" in planned.out
    shards = len(json.loads(dresd(capsys, "ingest", "status", *run, "--json").out)["shards"])
    assert shards >= 3
    assert "is not fitted; run dresd ingest fit" in dresd(capsys, "ingest", "embed", *run).error
    assert "16 dimensions explain" in dresd(capsys, "ingest", "fit", *run).out
    assert (tmp_path / "run" / "fit" / "explained.png").stat().st_size > 5_000
    assert "is not embedded; run dresd ingest embed" in dresd(capsys, "ingest", "load", *run).error
    assert dresd(capsys, "ingest", "embed", *run, "--shard", "0/2").code == 0
    status = dresd(capsys, "ingest", "status", *run).out
    assert f"embed    {-(-shards // 2)} of {shards} shards" in status and "fit      done" in status
    assert dresd(capsys, "ingest", "load", *run, "--shard", "0/2").code == 0
    assert "shards are not loaded (the first is 1)" in dresd(capsys, "ingest", "seal", *run).error
    by_workers = dresd(capsys, "ingest", "embed", *run, "--workers", "2")
    assert by_workers.code == 0
    assert re.search(r"embedding with 2 workers \(0: [\d,]+/s.*\)  [\d,]+ tokens", by_workers.err)
    assert dresd(capsys, "ingest", "load", *run).code == 0
    assert dresd(capsys, "ingest", "seal", *run).code == 0
    assert rows(uri) == whole
    content = json.loads(dresd(capsys, "ingest", "status", *run, "--json").out)
    assert set(content["phases"].values()) == {"done"} and content["rows"] == whole[0]
    sealed = json.loads((tmp_path / "run" / "seal" / "00000.done").read_text())
    assert (sealed["rows"], sealed["checksum"]) == whole


def test_two_jobs_one_after_the_other_give_the_store_of_one(
    corpus: Path, tmp_path: Path, whole: tuple[int, str], capsys: Capture
) -> None:
    command = ("ingest", "run", *arguments(corpus, tmp_path / "two.db"))
    first = dresd(capsys, *command, "--shard", "1/2")
    assert first.code == 0 and "left to the other jobs; not sealed yet" in first.err
    assert dresd(capsys, *command, "--shard", "0/2").code == 0
    assert rows(tmp_path / "two.db") == whole
    assert "run it once without --shard" in dresd(capsys, *command, "--shard", "0/2", "--replace").error


def test_a_damaged_file_of_rows_is_named_and_made_again(
    corpus: Path, tmp_path: Path, whole: tuple[int, str], capsys: Capture
) -> None:
    uri, run = tmp_path / "damaged.db", tmp_path / "run"
    for phase in ("plan", "fit", "embed"):
        options = arguments(corpus, uri) if phase == "plan" else ()
        assert dresd(capsys, "ingest", phase, *options, "--run-dir", run).code == 0
    path = run / "rows" / "00001.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    loading = dresd(capsys, "ingest", "run", *arguments(corpus, uri), "--run-dir", run)
    assert "00001.parquet is damaged" in loading.error and "run the same command again" in loading.error
    assert dresd(capsys, "ingest", "run", *arguments(corpus, uri), "--run-dir", run).code == 0
    assert rows(uri) == whole


def test_another_projection_or_model_is_refused(corpus: Path, tmp_path: Path, capsys: Capture) -> None:
    uri, run = tmp_path / "a.db", tmp_path / "run"
    assert dresd(capsys, "ingest", "run", *arguments(corpus, uri), "--run-dir", run, "--shard", "0/2").code == 0
    about = json.loads((run / "model.json").read_text())
    del about["digest"]
    (run / "model.json").write_text(json.dumps({**about, "model": "another"}))
    command = ("ingest", "run", *arguments(corpus, uri), "--run-dir", run)
    assert "begun with another model: model was another" in dresd(capsys, *command).error
    (run / "model.json").write_text(json.dumps(about))
    marker = run / "embed" / "00001.done"
    assert dresd(capsys, "ingest", "embed", "--run-dir", run).code == 0
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "digest": None, "projection": "another"}))
    with pytest.raises(StoreError, match="another projection"):
        Run.open(run).load(SINGLE_JOB, SILENT)


def test_workers_end_with_their_parent(corpus: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    assert dresd(capsys, "ingest", "plan", *arguments(corpus, tmp_path / "a.db"), "--run-dir", run).code == 0
    assert dresd(capsys, "ingest", "fit", "--run-dir", run).code == 0
    command = [sys.executable, "-m", "ingestion", "embed", "--run-dir", str(run), "--workers", "2"]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: list[int] = []
    end = time.monotonic() + 120
    while len(children) < 2 and time.monotonic() < end:
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent.pid)], capture_output=True, text=True)
        children = [int(pid) for pid in listed.stdout.split()]
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < end:
        time.sleep(0.05)
    assert len(children) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_a_failing_worker_is_named(corpus: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    assert dresd(capsys, "ingest", "plan", *arguments(corpus, tmp_path / "a.db"), "--run-dir", run).code == 0
    assert dresd(capsys, "ingest", "fit", "--run-dir", run).code == 0
    (run / "documents" / "00001.parquet").write_bytes(b"nothing")
    failed = dresd(capsys, "ingest", "embed", "--run-dir", run, "--workers", "2")
    assert "worker 1: " in failed.error and "00001.parquet cannot be read" in failed.error


def test_bulk_import_gives_the_same_store(
    corpus: Path, tmp_path: Path, whole: tuple[int, str], capsys: Capture, milvus_server: MilvusServer, server_uri: str
) -> None:
    bucket = f"file://{milvus_server.folder}/data"
    command = ("ingest", "run", *arguments(corpus, Path("x"))[:2], "--uri", server_uri, "--collection", "code", *SMALL)
    done = dresd(capsys, *command, "--run-dir", tmp_path / "run", "--bulk", bucket)
    assert done.code == 0, done
    with MilvusStore.open(server_uri, "code") as store:
        found = inspect_store(store.require_sealed())
    assert (found["rows"], found["checksum"]) == whole

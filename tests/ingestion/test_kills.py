"""Parent, worker or Milvus server is killed (SIGKILL) in any phase; the same command again builds the same store.

`make test` does this once; `make soak` at 50 moments, and 40 times just after the last rows were sent to Milvus Lite.
"""

import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest

from dresd_milvus.milvus import MilvusStore
from dresd_milvus.storage.inspection import Checksum
from tests import milvus_server
from tests.milvus_server import MilvusServer
from tests.samples import write_corpus

SOAK_TRIALS = 50
DOCUMENTS = 80

EMBEDDED_TRIALS = 40
EMBEDDED_DOCUMENTS = 400
"""Enough for several requests a shard, and for sealing to take about as long as the random time until the kill."""

BEGUN = {
    "plan": "documents/00000.parquet",
    "fit": "fit/00000.begun",
    "embed": "embed/00001.begun",
    "load": "load/00001.begun",
    "seal": "seal/00000.begun",
}
"""A file that exists once a phase has begun."""


class Content(NamedTuple):
    """The content of a store. rows: their number. checksum: over keys and continuations. vectors: by primary key."""

    rows: int
    checksum: str
    vectors: dict[int, np.ndarray]


def content(uri: str, collection: str) -> Content:
    checksum, vectors = Checksum(), {}
    with MilvusStore.open(uri, collection) as store:
        for rows in store.require_sealed().scan():
            checksum.add(rows)
            vectors.update(zip(rows.pk.tolist(), rows.vectors, strict=True))
        return Content(store.count(), checksum.hexdigest(), vectors)


def require_same(found: Content, expected: Content) -> None:
    assert (found.rows, found.checksum) == (expected.rows, expected.checksum)
    assert found.vectors.keys() == expected.vectors.keys()
    assert max(np.abs(found.vectors[pk] - expected.vectors[pk]).max() for pk in expected.vectors) <= 1e-6


class Ingestion:
    """One command line, which may be started several times."""

    def __init__(self, corpus: Path, uri: str, collection: str, run: Path, shard_size: int = 4_000) -> None:
        self.run, self.collection, self.uri = run, collection, uri
        self.command = [sys.executable, "-m", "ingestion", "run", "--source", str(corpus), "--uri", uri]
        self.command += ["--collection", collection, "--run-dir", str(run), "--workers", "2", "--dtype", "float32"]
        self.command += ["--dim", "16", "--shard-size", str(shard_size), "--index", "FLAT"]

    def start(self, *options: str) -> psutil.Popen:
        self.log = self.run.with_suffix(".log").open("ab")
        return psutil.Popen([*self.command, *options], stdout=self.log, stderr=self.log)

    def log_end(self) -> str:
        return self.run.with_suffix(".log").read_text()[-2000:]

    def wait_for(self, phase: str, process: psutil.Popen) -> None:
        """Wait until the phase has begun or the process has ended."""
        while not (self.run / BEGUN[phase]).exists() and process.poll() is None:
            time.sleep(0.01)


def kill(victim: str, process: psutil.Popen, server: MilvusServer) -> None:
    """Send SIGKILL to the victim; to the parent where there is no worker."""
    if victim == "server":
        server.kill()
        server.start()
        return
    children = process.children() if process.is_running() else []
    target = children[-1] if victim == "worker" and children else process
    try:
        target.kill()
    except psutil.NoSuchProcess:
        return


def trial(ingestion: Ingestion, server: MilvusServer, victim: str, phase: str, chance: random.Random) -> str:
    """Kill once in this phase, and in half of the trials once more at random in the second run; then let it end."""
    process = ingestion.start()
    ingestion.wait_for(phase, process)
    time.sleep(chance.uniform(0, 0.6))
    kill(victim, process, server)
    ends = [process.wait(timeout=240)]
    if chance.random() < 0.5 and ends[-1] != 0:
        process = ingestion.start()
        time.sleep(chance.uniform(0, 12))
        kill(chance.choice(["parent", "worker"]), process, server)
        ends.append(process.wait(timeout=240))
    while ends[-1] != 0:
        assert len(ends) < 6, ingestion.log_end()
        ends.append(ingestion.start().wait(timeout=240))
    return f"{victim} killed in {phase}: ended with {ends}"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("kills") / "corpus.jsonl", DOCUMENTS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A server for these tests only, because they kill it."""
    if not milvus_server.installed():
        pytest.skip(milvus_server.MISSING)
    server = MilvusServer(tmp_path_factory.mktemp("kills") / "server")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, server: MilvusServer, tmp_path_factory: pytest.TempPathFactory) -> Content:
    ingestion = Ingestion(corpus, server.uri, "undisturbed", tmp_path_factory.mktemp("whole") / "run")
    assert ingestion.start().wait(timeout=300) == 0, ingestion.log_end()
    return content(server.uri, "undisturbed")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("victim", "phase"), [("parent", "load"), pytest.param("server", "load", marks=pytest.mark.soak)]
)
def test_killed_once(
    corpus: Path, server: MilvusServer, undisturbed: Content, tmp_path: Path, victim: str, phase: str
) -> None:
    ingestion = Ingestion(corpus, server.uri, f"{victim}_{phase}", tmp_path / "run")
    print(trial(ingestion, server, victim, phase, random.Random(1)))
    require_same(content(server.uri, ingestion.collection), undisturbed)


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_killed_at_random_moments(corpus: Path, server: MilvusServer, undisturbed: Content, tmp_path: Path) -> None:
    chance = random.Random(0)
    for number in range(SOAK_TRIALS):
        victim, phase = chance.choice(["parent", "worker", "server"]), list(BEGUN)[number % len(BEGUN)]
        ingestion = Ingestion(corpus, server.uri, f"trial_{number}", tmp_path / f"run_{number}")
        print(f"{number + 1}: {trial(ingestion, server, victim, phase, chance)}", flush=True)
        require_same(content(server.uri, ingestion.collection), undisturbed)
        with MilvusStore.open(server.uri, ingestion.collection) as store:
            store.drop()


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_an_embedded_store_is_whole_when_killed_within_a_second_of_the_last_request(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", EMBEDDED_DOCUMENTS)
    uri, run, spare = tmp_path / "a.db", tmp_path / "run", tmp_path / "spare"
    ingestion = Ingestion(corpus, str(uri), "rows", run, shard_size=25_000)
    assert ingestion.start("--keep-rows").wait(timeout=900) == 0, ingestion.log_end()
    undisturbed, loads = content(str(uri), "rows"), len(list((run / "load").glob("*.done")))
    shutil.copytree(run / "rows", spare)
    chance, killed, late = random.Random(0), 0, 0
    while killed < EMBEDDED_TRIALS:
        for folder in (uri, run / "load", run / "seal", run / "rows"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(spare, run / "rows")
        process = ingestion.start()
        while len(list((run / "load").glob("*.done"))) < loads and process.poll() is None:
            time.sleep(0.005)
        time.sleep(seconds := chance.uniform(0, 1))
        process.kill()
        if process.wait(timeout=60) == 0:
            late += 1
            continue
        killed, state = killed + 1, "sealed" if (run / "seal" / "00000.done").exists() else "not sealed"
        assert ingestion.start().wait(timeout=240) == 0, ingestion.log_end()
        require_same(content(str(uri), "rows"), undisturbed)
        assert not (run / "rows").exists()
        print(f"{killed}: killed after {seconds:.2f} s, {state}; {undisturbed.rows} rows ({late} too late)", flush=True)

"""Measures how fast ingestion is: two workers against one, and loading into a server and into Milvus Lite.

On: the sample model and functions of the standard library. Workers: rows/s of two processes with one thread each over
those of one, in turns; they start together once their models are loaded. Loading: rows/s into the packaged Milvus
server (`make server`) and into Milvus Lite. (ingest_ratio.py measures ingestion against the bare model.)
Run: PYTHONPATH=. python benchmarks/ingest_speed.py
Prints: JSON.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from common import alternate, arguments, ratio, report

from dresd_milvus.console import Phases
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.storage.row_file import read_rows
from ingestion.planning.plan import Settings
from ingestion.run import Run
from ingestion.runner import plan
from tests.milvus_server import MilvusServer, installed


def main() -> None:
    options = arguments(__doc__ or "", documents=1000, repeats=5)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, Phases() as phases:
        run = planned(Path(folder), options.documents, phases)
        run.fit(phases)
        results["two workers over one"] = workers(run, options.repeats)
        print(results, flush=True)
        phases.phase("embedding", run.plan.tokens, "tokens")
        run.embed(run.shards(), phases.advance)
        results["loading rows/s"] = loading(run, Path(folder))
    report(results, run.model, options)


def planned(folder: Path, documents: int, phases: Phases) -> Run:
    """A planned run over the first documents of the standard library."""
    settings = Settings(
        "sample", ("stdlib",), "rows", str(folder / "rows.db"), limit=documents, fit_tokens=100_000, shard_size=100_000
    )
    return Run(folder / "run", plan(settings, folder / "run", phases))


WORKER = """
import sys, time, torch
from pathlib import Path
from ingestion.planning.documents import read_documents
from ingestion.phases.embed import RowSettings, embed_shard
from ingestion.planning.prune import Pruning
from ingestion.run import Run
torch.set_num_threads(1)
run = Run.open(Path(sys.argv[1]))
parts = [read_documents(run.folder.file("documents", int(n))) for n in sys.argv[3:]]
def once(part):
    return embed_shard(run.embedder, part, RowSettings(run.projection, 20, Pruning()), Path(sys.argv[2]), {})["rows"]
once(parts[0])
print("ready", flush=True)
sys.stdin.readline()
print(sum(map(once, parts)), flush=True)
"""


def workers(run: Run, repeats: int) -> dict[str, Any]:
    """Rows/s of two processes with one thread each over those of one."""

    def with_(count: int) -> Callable[[], float]:
        def measure() -> float:
            pipe, running = subprocess.PIPE, []
            for worker in range(count):
                out = run.folder.folder / f"timed{worker}.parquet"
                command = [sys.executable, "-c", WORKER, run.folder.folder, out, str(worker), str(worker + 2)]
                running.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
            for process in running:
                assert process.stdout and process.stdout.readline() == "ready\n"
            start = perf_counter()
            for process in running:
                assert process.stdin
                process.stdin.write("\n")
                process.stdin.flush()
            rows = sum(int(process.stdout.readline()) for process in running if process.stdout)
            elapsed = perf_counter() - start
            for process in running:
                process.wait()
            return rows / elapsed

        return measure

    speeds = alternate({"two": with_(2), "one": with_(1)}, repeats)
    return ratio(speeds["two"], speeds["one"])


def loading(run: Run, folder: Path) -> dict[str, float]:
    """Rows/s from the row files into each database, without sealing."""
    rates = {}
    places = {"Milvus Lite": str(folder / "lite.db")}
    server = MilvusServer(folder / "server") if installed() else None
    if server:
        places["Milvus server"] = server.uri
    for name, uri in places.items():
        with MilvusStore.create(uri, "rows", run.new_manifest(), run.projection) as store:
            start, rows = perf_counter(), 0
            for shard in run.shards():
                for part in read_rows(run.folder.file("embed", shard)):
                    store.writer().send(part)
                    rows += len(part)
            store.writer().flush()
            rates[name] = round(rows / (perf_counter() - start))
            rates[f"{name}, rows"] = rows
    if server:
        server.stop()
    return rates


if __name__ == "__main__":
    main()

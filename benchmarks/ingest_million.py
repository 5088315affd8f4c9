"""Measures building a store of a million rows: rows/s and peak memory by phase, bytes a row, time to a first search.

On: Python's standard library and the lib folder of the installed numpy; --rows 10000 makes a small store of the same
kind, to compare the memory with. The database is the packaged Milvus server (`make server`), or Milvus Lite without
it. Every phase is a command of its own, so that its peak memory is its own.
Run: PYTHONPATH=. python benchmarks/ingest_million.py
Prints: JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Any

import numpy as np
import psutil
from common import arguments, report

from dresd_milvus.milvus import MilvusStore
from dresd_milvus.models.loading import load_model
from tests.milvus_server import MilvusServer, installed

ROWS_PER_DOCUMENT = 158
"""Mean number of rows of a function of the standard library."""


def main() -> None:
    options = arguments(__doc__ or "", rows=1_000_000, workers=2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = MilvusServer(folder / "server") if installed() else None
        uri = server.uri if server else str(folder / "store.db")
        figures = phases(folder, uri, options.rows, options.workers)
        figures |= store_figures(folder, uri, server)
        if server:
            server.stop()
    report(figures, load_model("sample"), options)


def phases(folder: Path, uri: str, rows: int, workers: int) -> dict[str, Any]:
    """{phase: {seconds, rows/s, peak MiB}}; the peak of embedding is that of parent and workers together."""
    run = ["--run-dir", str(folder / "run")]
    corpus = ["--source", "stdlib", "--limit", str(max(rows // ROWS_PER_DOCUMENT, 10))]
    if rows > 500_000:
        corpus += ["--source", f"numpy={Path(np.__file__).parent / 'lib'}"]
    commands = {
        "plan": [*corpus, "--uri", uri, "--collection", "rows", *run],
        "fit": run,
        "embed": [*run, "--workers", str(workers)],
        "load": run,
        "seal": [*run, "--keep-rows"],
    }
    figures: dict[str, Any] = {}
    for phase, more in commands.items():
        seconds, peak = measured([sys.executable, "-m", "ingestion", phase, *more])
        figures[phase] = {"seconds": round(seconds, 1), "peak MiB": round(peak / 2**20)}
    stored = json.loads((folder / "run" / "seal" / "00000.done").read_text())["rows"]
    states = json.loads((folder / "run" / "fit" / "00000.done").read_text())["states"]
    for phase in commands:
        figures[phase]["rows/s"] = round((states if phase == "fit" else stored) / figures[phase]["seconds"])
    files = sum(path.stat().st_size for path in (folder / "run" / "rows").glob("*"))
    return {"rows": stored, **figures, "bytes a row in the run folder": round(files / stored, 1)}


def measured(command: list[str]) -> tuple[float, int]:
    """(seconds, peak resident bytes) of a command and the processes that it starts."""
    start, peak = perf_counter(), 0
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    last_line: deque[str] = deque(maxlen=1)
    Thread(target=lambda: last_line.extend(process.stderr), daemon=True).start()
    while process.poll() is None:
        peak = max(peak, resident(process))
        try:
            process.wait(timeout=0.2)
        except psutil.TimeoutExpired:
            continue
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {''.join(last_line)}")
    return perf_counter() - start, peak


def resident(process: psutil.Process) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def store_figures(folder: Path, uri: str, server: MilvusServer | None) -> dict[str, Any]:
    """Disk and memory of the database, and seconds from opening the collection to the first answer."""
    place = server.folder if server else folder / "store.db"
    disk = sum((Path(at) / name).lstat().st_size for at, _, names in os.walk(place) for name in names)
    with MilvusStore.open(uri, "rows") as store:
        rows = next(iter(store.scan()))
        start = perf_counter()
        fresh = MilvusStore.open(uri, "rows")
        fresh.search(rows.vectors[:1], rows.next_tokens[:1, 0].astype(np.int64), 50, timeout=30.0)
        first = perf_counter() - start
        fresh.close()
        return {
            "bytes a row on the database's disk, logs and WAL included": round(disk / store.manifest.rows),
            "database's resident MiB": round(psutil.Process(server.process.pid).memory_info().rss / 2**20)
            if server
            else None,
            "seconds from opening to the first answer": round(first, 3),
            "index": store.manifest.index,
        }


if __name__ == "__main__":
    main()

"""Worker processes that generate or embed (worker.py): started, watched and ended by one parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO, Any

from dresd_milvus.errors import InputError
from dresd_milvus.progress import Progress
from ingestion.run import Run


def run_workers(run: Run, phase: str, shards: Sequence[int], workers: int, progress: Progress) -> None:
    """Do a phase of these shards in several processes, each on a GPU of its own where there are GPUs.

    Raises InputError with the reason when one of them fails; the others are killed. Workers exit when this process
    dies, because their standard input is closed then.
    """
    messages: Queue[tuple[int, str | None]] = Queue()
    processes = [_start(run, phase, shards[worker::workers], worker, workers) for worker in range(workers)]
    try:
        for worker, process in enumerate(processes):
            assert process.stdout is not None
            Thread(target=_read_lines, args=(worker, process.stdout, messages), daemon=True).start()
        running = workers
        while running:
            worker, line = messages.get()
            if line is None:
                running -= 1
                if processes[worker].wait() != 0:
                    raise InputError(
                        f"worker {worker} ended with {processes[worker].returncode} (see {_log(run, worker)}); "
                        "run the same command again"
                    )
            elif "error" in (content := json.loads(line)):
                raise InputError(f"worker {worker}: {content['error']}")
            else:
                progress.advance(content["done"], worker)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _start(run: Run, phase: str, shards: Sequence[int], worker: int, workers: int) -> subprocess.Popen[str]:
    threads = str(max(len(os.sched_getaffinity(0)) // workers, 1))
    environment = {**os.environ, "DRESD_THREADS": threads, "OMP_NUM_THREADS": threads}
    command = [
        sys.executable,
        "-m",
        "ingestion.worker",
        phase,
        str(run.folder.folder),
        _device(run.device, worker),
    ]
    pipe = subprocess.PIPE
    with _log(run, worker).open("w") as errors:
        process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=errors, text=True)
    assert process.stdin
    process.stdin.write(json.dumps(shards) + "\n")
    process.stdin.flush()
    return process


def _log(run: Run, worker: int) -> Path:
    return run.folder.folder / f"worker-{worker}.log"


def _device(device: str, worker: int) -> str:
    """The device of a worker: the one that was named, else one of the GPUs in turn."""
    import torch

    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{worker % torch.cuda.device_count()}"


def _read_lines(worker: int, stream: IO[str], messages: Queue[Any]) -> None:
    """Put (worker, line) into the queue for every line, then (worker, None)."""
    for line in stream:
        messages.put((worker, line))
    messages.put((worker, None))

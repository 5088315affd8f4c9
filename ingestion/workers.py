"""Several processes that generate or embed: the parent starts them, shows what they do, stops all when one fails."""

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
from ingestion.planning.share import Progress
from ingestion.run import Run


def work_with_workers(run: Run, phase: str, shards: Sequence[int], workers: int, progress: Progress) -> None:
    """Do a phase of these shards with so many processes, one a GPU where there are GPUs.

    Raises InputError, saying why, when one of them fails. A worker ends by itself when its parent does: its standard
    input is then closed.
    """
    told: Queue[tuple[int, str | None]] = Queue()
    running = [_start(run, phase, shards[worker::workers], worker, workers) for worker in range(workers)]
    try:
        for worker, process in enumerate(running):
            assert process.stdout is not None
            Thread(target=_listen, args=(worker, process.stdout, told), daemon=True).start()
        listening = workers
        while listening:
            worker, line = told.get()
            if line is None:
                listening -= 1
                if running[worker].wait() != 0:
                    raise InputError(
                        f"worker {worker} ended with {running[worker].returncode} (see {_log(run, worker)}); "
                        "run the same command again"
                    )
            elif "error" in (said := json.loads(line)):
                raise InputError(f"worker {worker}: {said['error']}")
            else:
                progress.advance(said["done"], worker)
    finally:
        for process in running:
            process.kill()
            process.wait()


def _start(run: Run, phase: str, shards: Sequence[int], worker: int, workers: int) -> subprocess.Popen[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(cores // workers, 1)
    environment = {**os.environ, "DRESD_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
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
    """Each worker its own GPU, in turn, unless one was named."""
    import torch

    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{worker % torch.cuda.device_count()}"


def _listen(worker: int, stream: IO[str], told: Queue[Any]) -> None:
    for line in stream:
        told.put((worker, line))
    told.put((worker, None))

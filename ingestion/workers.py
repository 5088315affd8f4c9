"""Several processes that generate or embed: the parent starts them, shows what they do, stops all when one fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import torch

from dresd_milvus.console import Phases
from dresd_milvus.errors import InputError
from ingestion.run import Run


def work_with_workers(run: Run, phase: str, shards: Sequence[int], workers: int, progress: Phases) -> None:
    """Do a phase of these shards with so many processes, one a GPU where there are GPUs.

    Raises InputError, saying why, when one of them fails. A worker ends by itself when its parent does: its standard
    input is then closed.
    """
    running = [_start(run, phase, shards[worker::workers], worker, workers) for worker in range(workers)]
    with ThreadPoolExecutor(workers) as listeners:
        try:
            listening = [listeners.submit(_listen, run, *each, progress) for each in enumerate(running)]
            for ended in as_completed(listening):
                ended.result()
        finally:
            for process in running:
                process.kill()
                process.wait()


def _listen(run: Run, worker: int, process: subprocess.Popen[str], progress: Phases) -> None:
    """Show what a worker does, until it ends; raises InputError when it fails."""
    assert process.stdout is not None
    for line in process.stdout:
        said = json.loads(line)
        if "error" in said:
            raise InputError(f"worker {worker}: {said['error']}")
        progress.advance(said["done"], worker)
    if process.wait() != 0:
        log = _log(run, worker)
        raise InputError(f"worker {worker} ended with {process.returncode} (see {log}); run the same command again")


def _start(run: Run, phase: str, shards: Sequence[int], worker: int, workers: int) -> subprocess.Popen[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(cores // workers, 1)
    environment = {**os.environ, "DRESD_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "ingestion.worker", phase, str(run.folder.folder), _device(run.device, worker)]
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
    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{worker % torch.cuda.device_count()}"

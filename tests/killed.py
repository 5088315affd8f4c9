"""`dresd` in a process that sends itself a signal at an exact place: before its n-th change to a file below a folder.

The process is forked from one that has imported the libraries and waits, so a command starts in a fraction of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from threading import Timer
from typing import IO, Any

import matplotlib.pyplot  # noqa: F401  (these are what the commands import)
import milvus_lite.adapter.grpc.server  # noqa: F401
import transformers.models.auto.tokenization_auto
import transformers.models.llama.modeling_llama  # noqa: F401
from milvus_lite.storage.wal import WAL

import ingestion.runner  # noqa: F401
from dresd_milvus.cli.main import main
from dresd_milvus.milvus import writing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])

CHANGES = ("os.rename", "os.remove", "os.rmdir")
"""Python's audit events of changes; `open` is one when it opens for writing."""

REQUEST = "request"
"""The place before a request is written into the log of an embedded database."""


class Command:
    """A `dresd` command that has been started.

    arguments: its words. root: folder whose changes are counted. log: file without ending, outside of root, for its
    output (.out) and the places that it has passed (.places). die_at: the number of the place, from 1, before which it
    gets the signal; 0 for never. delay: seconds from there until it does so.
    """

    def __init__(
        self,
        arguments: list[str],
        root: Path,
        log: Path,
        die_at: int = 0,
        delay: float = 0.0,
        sent: signal.Signals = signal.SIGKILL,
    ) -> None:
        self._output, self._places = log.with_suffix(".out"), log.with_suffix(".places")
        self._process = CONTEXT.Process(target=_run, args=(arguments, str(root), log, die_at, delay, sent))
        self._process.start()

    def wait(self) -> int:
        """Its exit status, -9 when it was killed."""
        self._process.join(240)
        assert self._process.exitcode is not None, self.output()
        return self._process.exitcode

    def places(self) -> list[str]:
        """The places that it has passed, in order: what was done to which file."""
        return self._places.read_text().splitlines()

    def output(self) -> str:
        """What it has printed."""
        return self._output.read_text()


def _run(arguments: list[str], root: str, log: Path, die_at: int, delay: float, sent: signal.Signals) -> None:
    with log.with_suffix(".out").open("wb", 0) as output, log.with_suffix(".places").open("w", 1) as places:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a fork server ignores it
        _watch(root, places, die_at, delay, sent)
        sys.argv = ["dresd", *arguments]
        main()


def _watch(root: str, places: IO[str], die_at: int, delay: float, sent: signal.Signals) -> None:
    """Write every place into a file, and die at one of them. Requests are small, so that there are many."""
    writing.REQUEST_BYTES = 30_000
    passed, write = 0, WAL.write_insert

    def see(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal passed
        place = _place(event, arguments, root)
        if place:
            passed += 1
            if passed == die_at and delay:
                Timer(delay, os.kill, (os.getpid(), sent)).start()
            elif passed == die_at:
                os.kill(os.getpid(), sent)
            places.write(place + "\n")

    def write_request(*arguments: Any) -> None:
        sys.audit(REQUEST)
        write(*arguments)

    WAL.write_insert = write_request
    sys.addaudithook(see)


def _place(event: str, arguments: tuple[Any, ...], root: str) -> str | None:
    """What an audit event does below the root; None for anything else."""
    if event == "open":
        path, mode, flags = arguments
        if mode is None:
            return None
        text = str(path) if flags & (os.O_WRONLY | os.O_RDWR) else ""
    elif event in CHANGES:
        text = str(arguments[1] if event == "os.rename" else arguments[0])
        if event != "os.rename" and arguments[-1] != -1:  # shutil.rmtree names a file within an open folder
            return f"{event} in a folder: {text}"
    else:
        return REQUEST if event == REQUEST else None
    return f"{event} {text.removeprefix(root)}" if text.startswith(root) else None

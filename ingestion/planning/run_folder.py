"""A run folder on disk: the plan, the shards of every phase, and a marker for what is begun and what is done.

    plan.json                    the settings and the shards
    documents/00000.parquet      the documents of a shard, templates filled in
    generated/00000.parquet      the same with the target's own answers, if it was asked for them
    projection.*, fit/           the projection
    states/00000.bin             states of the fit that embedding can use (see states.py), removed by it
    rows/00000.parquet           keys and continuations, ready for any Milvus
    PHASE/00000.begun, .done     markers

'begun' is on the disk before a shard's first row goes out and 'done' after its last, so that after any interruption a
shard is known to be absent (insert), perhaps partly there (upsert), or there. A marker names the plan that it is of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dresd_milvus.errors import InputError
from dresd_milvus.files.atomic import write_json
from dresd_milvus.milvus import local_folder

PHASES = ("generate", "fit", "embed", "load", "seal")

FOLDERS = {"documents": "documents", "generate": "generated", "embed": "rows"}
"""Where the files of a phase lie."""


def usual_folder(uri: str, collection: str) -> Path:
    """The run folder of a collection where none is named: beside its database."""
    return local_folder(uri) / "runs" / collection


class RunFolder:
    """fingerprint: of the plan that its markers must name; empty until there is one."""

    def __init__(self, folder: Path, fingerprint: str = "") -> None:
        self.folder, self.fingerprint = folder, fingerprint

    def file(self, phase: str, shard: int) -> Path:
        """Where a phase (or 'documents') has its file of a shard."""
        return self.folder / FOLDERS[phase] / f"{shard:05d}.parquet"

    def begun(self, phase: str, shard: int = 0) -> bool:
        """Whether a shard has the marker 'begun'."""
        return self._marker(phase, shard, "begun").exists()

    def done(self, phase: str, shard: int = 0) -> dict[str, Any] | None:
        """What the 'done' marker says; None where there is none. InputError for one of another plan."""
        path = self._marker(phase, shard, "done")
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}); remove it and run the same command again") from error
        if content.get("plan") != self.fingerprint:
            raise InputError(f"{path} is of another plan; give another --run-dir, or --replace to start over")
        return dict(content)

    def begin(self, phase: str, shard: int = 0) -> None:
        """Write a shard's marker 'begun'."""
        if not self.begun(phase, shard):
            write_json(self._marker(phase, shard, "begun"), {"plan": self.fingerprint})

    def finish(self, phase: str, shard: int = 0, **content: Any) -> None:
        """Mark as done; content: the rows, their checksum, the hash of the file, whatever later phases need."""
        write_json(self._marker(phase, shard, "done"), {"plan": self.fingerprint, **content})

    def undo(self, phase: str, shard: int = 0) -> None:
        """Forget that it is done; it stays begun."""
        self._marker(phase, shard, "done").unlink(missing_ok=True)

    def forget(self, phase: str) -> None:
        """Remove all markers of a phase: what they speak of is gone."""
        for state in ("begun", "done"):
            for path in (self.folder / phase).glob(f"*.{state}"):
                path.unlink(missing_ok=True)

    def _marker(self, phase: str, shard: int, state: str) -> Path:
        return self.folder / phase / f"{shard:05d}.{state}"

    @contextmanager
    def claim(self, phase: str, shard: int = 0, wait: bool = False) -> Iterator[None]:
        """Be the only process at work on a shard, or wait until one is; InputError when another is.

        A process that dies gives it back.
        """
        path = self._marker(phase, shard, "lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout as error:
            raise InputError(
                f"another process is at work on shard {shard} of {self.folder} ({phase}); wait for it, or stop it"
            ) from error
        try:
            yield
        finally:
            lock.release()

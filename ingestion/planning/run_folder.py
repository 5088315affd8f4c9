"""The run folder: the plan of a run, the files of its phases, and markers that say which shards are begun and done.

    plan.json                    settings and shards
    model.json                   name and fingerprints of the model
    documents/00000.parquet      the documents of a shard, in their template
    generated/00000.parquet      the same documents with the target's own answers (only with --answers)
    projection.*, fit/           the projection
    states/00000.bin             hidden states that the fit leaves for the embed phase (see states.py)
    rows/00000.parquet           keys and continuations, ready for any Milvus
    PHASE/00000.begun, .done     markers
    PHASE/00000.lock             lock of the process that works on the shard

The marker 'begun' is on the disk before the first row of a shard is sent, 'done' after the last. So after any
interruption a shard is known to be absent (insert its rows), perhaps partly there (upsert them), or there (skip it).
Every marker names the plan that it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dresd_milvus.errors import DamagedFileError, InputError
from dresd_milvus.files.atomic import write_json
from dresd_milvus.files.digests import read_checked, write_checked
from dresd_milvus.milvus import local_folder

PHASES = ("generate", "fit", "embed", "load", "seal")

MODEL = "model.json"

FOLDERS = {"documents": "documents", "generate": "generated", "embed": "rows"}
"""Folder of the shard files that a phase writes ('documents' are those of the plan phase)."""


def default_run_folder(uri: str, collection: str) -> Path:
    """The run folder of a collection without --run-dir: beside its database."""
    return local_folder(uri) / "runs" / collection


class RunFolder:
    """Files and markers of a run. fingerprint: of the plan, which every marker must name; '' before there is one."""

    def __init__(self, folder: Path, fingerprint: str = "") -> None:
        self.folder, self.fingerprint = folder, fingerprint

    def file(self, phase: str, shard: int) -> Path:
        """Path of the file of a shard that a phase, or 'documents', writes."""
        return self.folder / FOLDERS[phase] / f"{shard:05d}.parquet"

    def begun(self, phase: str, shard: int = 0) -> bool:
        """Whether a shard has the marker 'begun'."""
        return self._marker(phase, shard, "begun").exists()

    def done(self, phase: str, shard: int = 0) -> dict[str, Any] | None:
        """Content of the marker 'done' of a shard; None without one.

        Raises InputError where the marker is damaged or belongs to another plan.
        """
        path = self._marker(phase, shard, "done")
        try:
            content = read_checked(path)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            raise InputError(f"{error}; remove it and run the same command again") from error
        if content.get("plan") != self.fingerprint:
            raise InputError(f"{path} is of another plan; give another --run-dir, or --replace to start over")
        return content

    def model(self) -> dict[str, Any] | None:
        """The name and the fingerprints of the model that the run was begun with; None before it was loaded.

        Raises InputError where that file is damaged.
        """
        try:
            return read_checked(self.folder / MODEL)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            raise InputError(f"{error}; remove it and run the same command again") from error

    def write_model(self, **content: str) -> None:
        """Write what `model` reads."""
        write_checked(self.folder / MODEL, content)

    def mark_begun(self, phase: str, shard: int = 0) -> None:
        """Write the marker 'begun' of a shard, unless it is there."""
        if not self.begun(phase, shard):
            write_json(self._marker(phase, shard, "begun"), {"plan": self.fingerprint})

    def mark_done(self, phase: str, shard: int = 0, **content: Any) -> None:
        """Write the marker 'done' of a shard. content: what later phases need, such as rows, checksum, file hash."""
        write_checked(self._marker(phase, shard, "done"), {"plan": self.fingerprint, **content})

    def unmark_done(self, phase: str, shard: int = 0) -> None:
        """Remove the marker 'done' of a shard; 'begun' stays."""
        self._marker(phase, shard, "done").unlink(missing_ok=True)

    def clear_markers(self, *phases: str) -> bool:
        """Remove all markers of phases, because what they describe is gone; returns whether there were any."""
        markers = [
            path for phase in phases for state in ("done", "begun") for path in (self.folder / phase).glob(f"*.{state}")
        ]
        for path in markers:
            path.unlink(missing_ok=True)
        return bool(markers)

    def _marker(self, phase: str, shard: int, state: str) -> Path:
        return self.folder / phase / f"{shard:05d}.{state}"

    @contextmanager
    def lock(self, phase: str, shard: int = 0, wait: bool = False) -> Iterator[None]:
        """Keep all other processes from working on a shard in this phase. The lock of a killed process is free.

        wait: wait for a process that has the lock. Without it, raises InputError.
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

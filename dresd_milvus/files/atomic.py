"""Files and folders that appear whole or not at all.

Content is written under a temporary name beside its place, brought to the disk (fsync) and renamed. After an error
nothing is left; after a kill or a power cut there is the old content, or the new, or a temporary `*.part` that nobody
reads.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_file(path: Path, *, alone: bool = False) -> Iterator[IO[bytes]]:
    """A binary file to write, which replaces `path` once the block ends without an error. Makes the folders above.

    alone: no other process writes `path` meanwhile. The temporary name is then always the same, so that the next
    attempt writes over what a killed process left. Raises OSError where the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _temporary(path, alone)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def atomic_folder(folder: Path, *, alone: bool = False, replace: bool = False) -> Iterator[Path]:
    """An empty folder to fill, which gets the name `folder` once the block ends without an error.

    alone: as for atomic_file. replace: remove what is at `folder` first; without it OSError is raised where a folder
    with content is there.
    """
    part = _temporary(folder, alone)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for path in (*part.rglob("*"), part):
            sync(path)
        if replace:
            shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sync(folder.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people to read, indented and in UTF-8, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def sync(path: Path) -> None:
    """Bring a file, or the entries of a folder, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _temporary(path: Path, alone: bool) -> Path:
    return path.with_name(f"{path.name}.part" if alone else f"{path.name}.{os.getpid()}.part")

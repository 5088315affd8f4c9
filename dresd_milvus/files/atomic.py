"""Atomic writing: files and folders that appear whole or not at all.

Content is written under a temporary name in the same folder, flushed to the disk (fsync) and renamed. After an error
the temporary file is removed. After a kill or a power cut the old content is there, or the new; a temporary `*.part`
may be left, which nothing reads.
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
def atomic_file(path: Path, *, single_writer: bool = False) -> Iterator[IO[bytes]]:
    """Open a binary file for writing; it replaces `path` when the block ends without an error.

    Missing parent folders are made. single_writer: no other process writes `path` at the same time. The temporary name
    is then always the same, so that the next attempt overwrites what a killed process has left. Raises OSError, for
    instance if the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _temporary(path, single_writer)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    fsync(path.parent)


@contextmanager
def atomic_folder(folder: Path, *, single_writer: bool = False, replace: bool = False) -> Iterator[Path]:
    """Make an empty folder to fill; it is renamed to `folder` when the block ends without an error.

    single_writer: see atomic_file. replace: remove an existing `folder` first; otherwise OSError is raised if `folder`
    exists and is not empty.
    """
    part = _temporary(folder, single_writer)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for path in (*part.rglob("*"), part):
            fsync(path)
        if replace:
            shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    fsync(folder.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, indented and in UTF-8, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def fsync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path, single_writer: bool) -> Path:
    return path.with_name(f"{path.name}.part" if single_writer else f"{path.name}.{os.getpid()}.part")

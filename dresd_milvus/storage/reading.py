"""Reading a store on media that cannot be written."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from dresd_milvus.files.atomic import atomic_folder
from dresd_milvus.files.cache_folder import cache_folder
from dresd_milvus.progress import SILENT, Progress
from dresd_milvus.retrieval.names import is_embedded


def readable(uri: str, progress: Progress = SILENT) -> str:
    """Where a database can be opened for reading: itself, or a copy in the user's cache if it cannot be written.

    Milvus Lite writes to a database that it opens (a lock, a log). The copy is made once, and anew when the database
    has changed. progress: of copying. Raises OSError where the cache cannot be written either.
    """
    path = Path(uri)
    if not is_embedded(uri) or not path.is_dir() or os.access(path, os.W_OK):
        return uri
    files = sorted(file for file in path.rglob("*") if file.is_file())
    state = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    name = hashlib.blake2b(repr((str(path.resolve()), state)).encode(), digest_size=8).hexdigest()
    copy = cache_folder() / "copies" / f"{path.stem}-{name}.db"
    if not copy.exists():
        megabytes = sum(size for _, size, _ in state) / 1e6
        progress.message(
            f"{uri} cannot be written; a copy of it ({megabytes:,.0f} MB) in {copy.parent} is read instead"
        )
        with atomic_folder(copy, replace=True) as part:
            shutil.copytree(path, part, dirs_exist_ok=True, copy_function=shutil.copyfile)
    return str(copy)

"""The user's cache folder, for copies and measurements that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder dresd-milvus in $XDG_CACHE_HOME, which is ~/.cache by default. It may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dresd-milvus"

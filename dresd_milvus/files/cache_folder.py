"""Where a user's copies and measurements are kept that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """dresd-milvus in $XDG_CACHE_HOME, by default ~/.cache; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dresd-milvus"

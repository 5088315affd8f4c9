"""Functions that run at every step and touch every node are compiled, by numba, and kept compiled between runs.

They take arrays and numbers only, and release the interpreter's lock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

from dresd_milvus.caches import cache_folder

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code, made at its first call (seconds, once on a machine)."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _folder()
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    finally:
        numba.config.CACHE_DIR = before


@cache
def _folder() -> str:
    """Where compiled code is kept: per state of the package, for numba notices a change of a function's own file only,
    not of those that it calls into."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return str(cache_folder() / "compiled" / digest.hexdigest()[:16])

"""Compilation by numba of functions that loop over many nodes, rows or tokens at every step.

Their arguments are numbers, arrays, and named tuples of arrays. They release the interpreter's lock. Machine code is
saved in the user's cache folder, so that it is compiled once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar, overload

import numba

from dresd_milvus.files.cache_folder import cache_folder

Function = TypeVar("Function", bound=Callable[..., Any])


@overload
def compiled(function: Function, /) -> Function: ...
@overload
def compiled(*, fastmath: bool) -> Callable[[Function], Function]: ...
def compiled(function: Any = None, /, *, fastmath: bool = False) -> Any:
    """Decorator: compile a function at its first call, which takes seconds, once on a machine.

    fastmath: allow the compiler to reorder sums, for several numbers at a time. The last digits of results then differ
    between machines, and no number may be NaN.
    """
    if function is None:
        return partial(_compile, fastmath=fastmath)
    return _compile(function, fastmath)


def _compile(function: Any, fastmath: bool) -> Any:
    previous, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _cache_dir()
    try:
        flags = {"reassoc", "contract", "nnan", "nsz"} if fastmath else False
        return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=flags)(function)
    finally:
        numba.config.CACHE_DIR = previous


@cache
def _cache_dir() -> str:
    """The folder of machine code for this state of the package's source.

    numba notices changes in a function's own file only, not in the files of functions that it calls.
    """
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return str(cache_folder() / "compiled" / digest.hexdigest()[:16])

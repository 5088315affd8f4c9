"""Functions that run at every step and touch every node are compiled, by numba, and kept compiled between runs.

They take numbers, arrays and named tuples of arrays, and release the interpreter's lock.
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
def compiled(*, any_order: bool) -> Callable[[Function], Function]: ...
def compiled(function: Any = None, /, *, any_order: bool = False) -> Any:
    """The function as machine code, made at its first call (seconds, once on a machine).

    any_order: its sums may be added up in any order, several numbers at a time; their last digits differ from machine
    to machine. None of its numbers may be NaN.
    """
    if function is None:
        return partial(_compile, any_order=any_order)
    return _compile(function, any_order)


def _compile(function: Any, any_order: bool) -> Any:
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _folder()
    try:
        loose = {"reassoc", "contract", "nnan", "nsz"} if any_order else False
        return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=loose)(function)
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

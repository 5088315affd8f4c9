"""A corpus that every machine has: pairs of docstring and function from Python's standard library."""

from __future__ import annotations

import ast
import hashlib
import os
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HELD_BACK = 20
"""One in this number of functions is held back for evaluation and never ingested."""

SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "lib2to3", "__pycache__", "ensurepip"}


class Pair(NamedTuple):
    """A task and its solution. prompt: the summary of a docstring. response: the function without its docstring."""

    prompt: str
    response: str
    origin: str


def pairs(held_back: bool = False) -> Iterator[Pair]:
    """The functions of the standard library that have a docstring, each text once.

    held_back: those for evaluation instead of those of the corpus. A hash of the function's text decides, so that
    copies of a function are on one side, and every interpreter of a version has the same split.
    """
    seen: set[str] = set()
    for pair in functions(Path(sysconfig.get_paths()["stdlib"]), "stdlib"):
        digest = hashlib.sha256(pair.response.encode()).hexdigest()
        if digest not in seen and (int(digest, 16) % HELD_BACK == 0) == held_back:
            seen.add(digest)
            yield pair


def functions(folder: Path, origin: str) -> Iterator[Pair]:
    """The functions with a docstring in every Python file under a folder, in a stable order."""
    for path in sorted(_files(folder)):
        try:
            source = path.read_text(encoding="utf-8")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about invalid escapes in strings
                module = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        lines = source.splitlines()
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (pair := _pair(node, lines, origin)):
                yield pair


def _files(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]  # do not walk them: they may be large
        yield from (Path(at, name) for name in names if name.endswith(".py"))


def _pair(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str], origin: str) -> Pair | None:
    """A function as a pair; None if it has no docstring or nothing but a docstring."""
    docstring = ast.get_docstring(node)
    if not docstring or len(node.body) < 2:
        return None
    first, end = node.body[0], node.end_lineno
    if first.lineno == node.lineno or first.end_lineno is None or node.body[1].lineno == first.end_lineno:
        return None  # all on one line
    kept = lines[node.lineno - 1 : first.lineno - 1] + lines[first.end_lineno : end]
    summary = " ".join(docstring.strip().split("\n\n")[0].split())
    response = textwrap.dedent("\n".join(line.rstrip() for line in kept)).strip()
    return Pair(f"Write a Python function `{node.name}`. {summary}", response, origin) if summary else None

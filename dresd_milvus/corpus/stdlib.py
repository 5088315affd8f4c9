"""The corpus that is on every machine: (docstring -> function) pairs of the interpreter's own standard library."""

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
"""One function in this many is kept for evaluation and never ingested."""

SKIPPED = {"test", "tests", "idle_test", "site-packages", "lib2to3", "__pycache__", "ensurepip"}


class Pair(NamedTuple):
    """prompt: what to write, in the words of the docstring; response: the source, its docstring taken out."""

    prompt: str
    response: str
    origin: str


def pairs(held_back: bool = False) -> Iterator[Pair]:
    """The standard library's functions that have a docstring, each text once: the corpus, or what is held back.

    The split is a hash of the function's text, so that copies of a function fall on one side and another
    interpreter of the same version gives the same split.
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
                warnings.simplefilter("ignore")  # old escapes in other people's strings
                module = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        lines = source.splitlines()
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (pair := _pair(node, lines, origin)):
                yield pair


def _files(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED]  # not even looked into: they may be large
        yield from (Path(at, name) for name in names if name.endswith(".py"))


def _pair(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str], origin: str) -> Pair | None:
    """The function as a pair, or None if it has no docstring or nothing else."""
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

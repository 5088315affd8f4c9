"""Tests and benchmarks use the packages as everybody does: by their public names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [path.relative_to(ROOT) for folder in ("tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]

NAMED_TUPLES = {"_replace", "_asdict", "_fields"}
"""Public in spite of their names: no field of a named tuple may begin with an underscore."""

BY_NAME = {"setattr", "delattr", "getattr", "patch", "object"}
"""Functions that are given a name as text: of monkeypatch, of unittest.mock, Python's own."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in {"_", *NAMED_TUPLES}


def own_names(module: ast.Module) -> set[str]:
    """What a file's functions and classes are called, and what its classes keep in themselves."""
    nodes = list(ast.walk(module))
    named = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    attributes = (node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
    kept = {node.attr for node in attributes if own(node)}
    return named | kept


def own(node: ast.Attribute) -> bool:
    """Whether this is an attribute of `self`."""
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def private_names(module: ast.Module) -> Iterator[str]:
    """Others' private names that a file imports, reads or writes, or gives to a function of BY_NAME."""
    mine = own_names(module)
    for node in ast.walk(module):
        names: list[str] = []
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [part for name in node.names for part in name.name.split(".")]
            names += (getattr(node, "module", None) or "").split(".")
        elif isinstance(node, ast.Attribute) and not (own(node) and node.attr in mine):
            names = [node.attr]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in BY_NAME:
            texts = (part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str))
            names = [name for text in texts for name in text.split(".")]
        yield from (f"line {node.lineno}: {name}" for name in names if is_private(name))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_private_name_of_the_packages_is_used(path: Path) -> None:
    assert list(private_names(ast.parse((ROOT / path).read_text()))) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from package import _hidden", 1),
        ("import package._hidden", 1),
        ("made._hidden = 1", 1),
        ("monkeypatch.setattr(module, '_hidden', 1)", 1),
        ("with patch('package.module._hidden'): pass", 1),
        ("class Mine(Theirs):\n    def look(self):\n        return self._theirs", 1),
        ("class Mine:\n    def keep(self):\n        self._mine = 1\n        return self._mine", 0),
        ("_, __version__ = point._replace(x=1), package.__version__", 0),
    ],
)
def test_the_rule_sees_what_it_is_to_see(code: str, found: int) -> None:
    assert len(list(private_names(ast.parse(code)))) == found

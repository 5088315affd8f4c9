"""Every public module, class, function and method has a docstring.

A name with a leading underscore is not public, nor is what it contains. A method needs no docstring of its own where it
implements a documented method of a protocol or of a base class.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("dresd_milvus", "ingestion", "evaluation", "infra")
FILES = {str(path.relative_to(ROOT)): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
MODULES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
CLASSES = {node.name: node for tree in MODULES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    """The public methods of a class by name; of overloads the last."""
    found = (each for each in node.body if isinstance(each, ast.FunctionDef))
    return {each.name: each for each in found if not each.name.startswith("_")}


def bases(node: ast.ClassDef) -> list[str]:
    """The names of a class's bases, without their parameters."""
    return [ast.unparse(base).partition("[")[0] for base in node.bases]


PROTOCOLS = [node for node in CLASSES.values() if "Protocol" in bases(node)]


def documented_elsewhere(node: ast.ClassDef) -> set[str]:
    """The methods of a class that a base class or a protocol documents; a protocol is met by having its methods."""
    own = set(methods(node))
    met = [protocol for protocol in PROTOCOLS if protocol is not node and set(methods(protocol)) <= own]
    above = [CLASSES[base] for base in bases(node) if base in CLASSES]
    names = {name for other in (*met, *above) for name, each in methods(other).items() if ast.get_docstring(each)}
    return names.union(*map(documented_elsewhere, above))


def undocumented(name: str) -> Iterator[str]:
    """The public parts of a file that have no docstring."""
    if not ast.get_docstring(MODULES[name]):
        yield "the module"
    for node in MODULES[name].body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        overloaded = "overload" in map(ast.unparse, node.decorator_list)
        if not ast.get_docstring(node) and not overloaded:
            yield node.name
        if isinstance(node, ast.ClassDef) and "Protocol" not in bases(node):
            elsewhere = documented_elsewhere(node)
            for method, each in methods(node).items():
                if not ast.get_docstring(each) and method not in elsewhere:
                    yield f"{node.name}.{method}"


@pytest.mark.parametrize("name", FILES)
def test_what_is_public_is_documented(name: str) -> None:
    assert not list(undocumented(name)), "give these a docstring"


def test_what_lacks_a_docstring_is_found() -> None:
    source = '"""M."""\nclass A:\n    def f(self): ...\n    def _g(self): ...\ndef h(): ...\nclass _B: ...\n'
    MODULES["x"] = ast.parse(source)
    assert list(undocumented("x")) == ["A", "A.f", "h"]
    del MODULES["x"]

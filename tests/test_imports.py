"""Imports run one way, third parties stay where the design puts them, and files, folders and functions stay small."""

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("dresd_milvus", "ingestion", "evaluation", "infra")
FILES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

FLOORS = (
    "errors", "defaults", "files", "compiled", "progress", "console", "decoding", "target", "retrieval", "drafters",
    "corpus", "models", "milvus", "storage", "options", "systems", "serving", "api", "cli",
)  # fmt: skip
"""The modules and folders of dresd_milvus from the ground up: each imports only from those before it, and itself."""

TOP = ("api", "cli")
"""Where dresd_milvus is put together with the packages around it."""


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, inside functions as well."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if name in MODULES else node.module or "" for name in inner)


def module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in FILES}


def floor(name: str) -> str:
    """Which part of dresd_milvus a module is in; '' for the package itself."""
    return [*name.split("."), ""][1]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_packages_import_the_core_only(path: Path) -> None:
    others = {name.split(".")[0] for name in imported(path)} & set(PACKAGES) - {path.parts[0]}
    allowed = {"dresd_milvus"} if path.parts[0] != "dresd_milvus" else set()
    assert others <= allowed or floor(module(path)) in TOP


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "dresd_milvus"], ids=str)
def test_a_floor_imports_from_the_floors_below(path: Path) -> None:
    if module(path) == "dresd_milvus":
        return  # the front of the Python API
    below = FLOORS[: FLOORS.index(floor(module(path))) + 1]
    inner = {floor(name) for name in imported(path) if name.startswith("dresd_milvus.")}
    assert inner <= set(below)


def test_no_imports_go_in_a_circle() -> None:
    graph = {name: {other for other in imported(path) if other in MODULES} for name, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_third_parties_stay_in_their_place(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & {"pymilvus", "milvus_lite"} or path == Path("dresd_milvus/milvus/client/libraries.py")
    assert "docker" not in roots or path.parts[0] == "infra"
    assert "vllm" not in roots or path.name == "vllm_speculator.py"
    assert "openai" not in roots or path == Path("evaluation/traffic/client.py")
    assert "datasets" not in roots or path.parts[1] == "corpus"
    assert "deepspeed" not in roots or path.name == "loading.py"
    assert "gguf" not in roots or path.name == "gguf_file.py"
    assert not any(name.startswith("torch.distributed") for name in imported(path)) or path.name == "ranks.py"


def test_the_decoding_loop_sees_protocols_only() -> None:
    for name in imported(MODULES["dresd_milvus.decoding.loop"]):
        assert not name.startswith("transformers")
        assert floor(name) in ("decoding", "defaults", "errors") or not name.startswith("dresd_milvus")


def test_files_stay_short() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in FILES}
    assert {path: length for path, length in lengths.items() if length > 300} == {}


def test_folders_stay_small() -> None:
    modules = Counter(path.parent for path in FILES if not path.stem.startswith("__"))
    assert {str(folder): count for folder, count in modules.items() if count > 10} == {}


def test_functions_stay_short() -> None:
    """From def to the last line, docstrings included."""
    nodes = [(path, node) for path in FILES for node in ast.walk(ast.parse((ROOT / path).read_text()))]
    functions = [(path, node) for path, node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = [(f"{path}: {node.name}", (node.end_lineno or 0) - node.lineno + 1) for path, node in functions]
    assert {name: length for name, length in lengths if length > 50} == {}
    assert sum(length < 20 for _, length in lengths) >= 0.9 * len(lengths)

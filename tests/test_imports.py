"""Imports run one way, and third parties stay where the design puts them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("dresd_milvus", "ingestion", "evaluation", "infra")
FILES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=str)
def test_packages_import_the_core_only(path: Path) -> None:
    others = {name.split(".")[0] for name in imported(path)} & set(PACKAGES) - {path.parts[0]}
    allowed = {"dresd_milvus"} if path.parts[0] != "dresd_milvus" else set()
    if path in {Path("dresd_milvus") / name for name in ("api.py", "cli.py", "demo.py")}:
        allowed = set(PACKAGES)
    assert others <= allowed


@pytest.mark.parametrize("path", FILES, ids=str)
def test_third_parties_stay_in_their_place(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & {"pymilvus", "milvus_lite"} or path == Path("dresd_milvus/milvus/libraries.py")
    assert "docker" not in roots or path.parts[0] == "infra"
    assert "datasets" not in roots or path.parts[1] == "corpus"
    assert "deepspeed" not in roots or path.name == "loading.py"
    assert "gguf" not in roots or path.name == "gguf_file.py"
    assert not any(name.startswith("torch.distributed") for name in imported(path)) or path.name == "ranks.py"


def test_the_decoding_loop_sees_protocols_only() -> None:
    for name in imported(Path("dresd_milvus/decode.py")):
        assert not name.startswith(("transformers", "dresd_milvus.milvus", "dresd_milvus.replica"))
        assert not name.startswith("dresd_milvus.drafters") or name == "dresd_milvus.drafters.base"


def test_files_stay_short() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in FILES}
    assert {path: length for path, length in lengths.items() if length > 300} == {}

"""A store on media that cannot be written is opened for reading, and nothing else."""

import os
from pathlib import Path

import pytest

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.storage.opening import open_retrieval
from dresd_milvus.storage.reading import readable
from dresd_milvus.target.hf_target import HFTarget
from tests.helpers import dresd
from tests.oracle import example_manifest
from tests.sealed import build_collection

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that the system says cannot be written (root may write whatever its mode is)."""
    uri, access = tmp_path / "media" / "a.db", os.access
    build_collection(str(uri), rows=60).close()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode, **how: Path(path) != uri and access(path, mode, **how))
    return str(uri)


def state(uri: str) -> list[tuple[str, int, int]]:
    files = sorted(Path(uri).parent.rglob("*"))
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def test_it_is_read_from_a_copy_that_is_made_once(capsys: Capture, uri: str, tmp_path: Path) -> None:
    before = state(uri)
    assert "rows" in dresd(capsys, "store", "list", "--uri", uri).out
    for _ in range(2):
        done = dresd(capsys, "inspect", "--uri", uri, "--collection", "rows")
        assert done.code == 0 and "60" in done.out
    assert dresd(capsys, "store", "export", "--uri", uri, "--collection", "rows", "--to", tmp_path / "out").code == 0
    assert state(uri) == before and len(list((tmp_path / "cache").rglob("*.db"))) == 1


def test_drafters_search_it(uri: str, tiny: HFTarget) -> None:
    about, before = example_manifest(), state(uri)
    model = LoadedModel("tiny", tiny, None, about.model_fingerprint, about.tokenizer_hash)
    assert len(open_retrieval(uri, "rows", model).store) == 60  # type: ignore[arg-type]
    assert state(uri) == before


def test_what_would_write_is_refused(capsys: Capture, uri: str) -> None:
    before = state(uri)
    assert "cannot be written" in dresd(capsys, "store", "drop", "--uri", uri, "--collection", "rows").error
    with pytest.raises(StoreError, match="copy it first"):
        MilvusStore.open(uri, "rows")
    assert state(uri) == before


def test_a_database_that_can_be_written_is_opened_itself(tmp_path: Path) -> None:
    build_collection(str(tmp_path / "a.db")).close()
    assert readable(str(tmp_path / "a.db")) == str(tmp_path / "a.db")
    assert readable("http://127.0.0.1:19530") == "http://127.0.0.1:19530"

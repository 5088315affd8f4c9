"""Whole ingestions into Milvus Lite: resumed, repeated, refused."""

import os
import shutil
from pathlib import Path

import pytest

from dresd_milvus.console import Phases
from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.milvus.writing import Writer
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.retrieval.store import Rows
from dresd_milvus.storage.inspection import inspect_store
from ingestion.planning.run_folder import RunFolder
from ingestion.runner import ingest
from tests.samples import build, settings, write_corpus


def checksum(uri: Path) -> tuple[int, str]:
    with MilvusStore.open(str(uri), "code") as store:
        found = inspect_store(store.require_sealed())
    return found["rows"], found["checksum"]


class InterruptedRunError(Exception):
    """Stands for a process that dies."""


def test_an_interrupted_run_resumed_equals_an_undisturbed_one(
    sample: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 20)
    build(sample, corpus, tmp_path / "whole.db", shard_size=1500)
    real = Writer.send
    for dies_at in (1, 2, 4):
        calls = 0

        def send(store: Writer, rows: Rows, replace: bool = False, dies_at: int = dies_at) -> None:
            nonlocal calls
            calls += 1
            if calls == dies_at:
                half = Rows(
                    rows.pk[: len(rows) // 2], rows.vectors[: len(rows) // 2], rows.next_tokens[: len(rows) // 2]
                )
                real(store, half, replace)  # some rows arrive, and then nothing more
                raise InterruptedRunError
            real(store, rows, replace)

        uri = tmp_path / f"dies{dies_at}.db"
        monkeypatch.setattr(Writer, "send", send)
        with pytest.raises(InterruptedRunError):
            build(sample, corpus, uri, shard_size=1500)
        with pytest.raises(StoreError, match="not sealed"):
            checksum(uri)
        monkeypatch.setattr(Writer, "send", real)
        build(sample, corpus, uri, shard_size=1500)
        assert checksum(uri) == checksum(tmp_path / "whole.db")


@pytest.mark.parametrize("files", ["there", "gone"])
def test_rows_that_the_database_has_lost_are_loaded_again(
    sample: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise InterruptedRunError

    corpus, uri = write_corpus(tmp_path / "corpus.jsonl", 10), tmp_path / "a.db"
    whole = build(sample, corpus, tmp_path / "whole.db", shard_size=1500)
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        patch.setattr(MilvusStore, "seal", interrupted)
        build(sample, corpus, uri, shard_size=1500)
    with MilvusStore.open(str(uri), "code") as store:
        store.client.delete("code", ids=next(store.scan()).pk[::3].tolist())
        assert store.count() < whole.rows
    if files == "gone":
        shutil.rmtree(tmp_path / "a.run" / "rows")
    build(sample, corpus, uri, shard_size=1500)
    assert "; all its rows are loaded again" in capsys.readouterr().err
    assert checksum(uri) == checksum(tmp_path / "whole.db")
    assert not (tmp_path / "a.run" / "rows").exists()


def test_the_files_of_rows_outlast_everything_that_needs_them(
    sample: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, uri, rows = write_corpus(tmp_path / "corpus.jsonl", 5), tmp_path / "a.db", tmp_path / "a.run" / "rows"
    mark_done, synced = RunFolder.mark_done, []

    def dies_before_the_marker(folder: RunFolder, phase: str, shard: int = 0, **content: object) -> None:
        if phase == "seal":
            raise InterruptedRunError
        mark_done(folder, phase, shard, **content)

    def dies_before_the_removal(path: Path, **_: object) -> None:
        raise InterruptedRunError

    for owner, name, dies in (
        (RunFolder, "mark_done", dies_before_the_marker),
        (shutil, "rmtree", dies_before_the_removal),
    ):
        with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
            patch.setattr(owner, name, dies)
            patch.setattr(os, "fsync", lambda opened: synced.append(str(Path(f"/proc/self/fd/{opened}").readlink())))
            build(sample, corpus, uri)
        assert list(rows.iterdir())
    stored = {str(path.resolve()) for path in uri.rglob("*")}
    assert any(path.endswith(".parquet") for path in stored) and stored <= set(synced)
    manifest = build(sample, corpus, uri)
    assert manifest.rows == checksum(uri)[0] and not rows.exists()


def test_running_twice_changes_nothing(sample: LoadedModel, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 5)
    assert build(sample, corpus, tmp_path / "a.db") == build(sample, corpus, tmp_path / "a.db")


def test_a_database_that_was_removed_is_built_again(sample: LoadedModel, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 5)
    first = build(sample, corpus, tmp_path / "a.db")
    shutil.rmtree(tmp_path / "a.db")
    assert build(sample, corpus, tmp_path / "a.db").rows == first.rows


def test_other_settings_are_refused_by_name_and_replace_starts_over(sample: LoadedModel, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 5)
    build(sample, corpus, tmp_path / "a.db")
    with pytest.raises(InputError, match="dim was 16 and is 8"):
        build(sample, corpus, tmp_path / "a.db", dim=8)
    write_corpus(corpus, 6)
    with pytest.raises(InputError, match="the corpus has changed"):
        build(sample, corpus, tmp_path / "a.db")
    with Phases() as phases:
        changed = settings(corpus, tmp_path / "a.db", dim=8)
        manifest = ingest(changed, tmp_path / "a.run", phases, model=sample, replace_old=True)
        assert manifest and manifest.dim == 8


def test_a_collection_of_another_run_is_left_alone(sample: LoadedModel, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 5)
    build(sample, corpus, tmp_path / "a.db")
    (tmp_path / "a.run").rename(tmp_path / "moved")
    with pytest.raises(StoreError, match="was not built by this run"):
        build(sample, corpus, tmp_path / "a.db")


def test_the_summary_counts_what_was_read(sample: LoadedModel, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 9)
    with corpus.open("a") as file:
        file.write('{"instruction": "nothing", "output": "  "}\n')
    manifest = build(sample, corpus, tmp_path / "a.db")
    assert manifest.documents == 9 and manifest.continuation == 20 and manifest.rows == checksum(tmp_path / "a.db")[0]
    assert build(sample, corpus, tmp_path / "b.db", limit=3).documents == 3

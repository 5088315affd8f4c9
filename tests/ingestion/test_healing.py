"""A store that has lost anything gets it again by the same command, from the files of its rows while they are there."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.retrieval.store import Rows
from dresd_milvus.storage.inspection import inspect_store
from tests.helpers import dresd
from tests.samples import build, write_corpus
from tests.sealed import build_collection

DATABASE, RUN, ROWS = Path("a.db"), Path("a.run"), Path("a.run/rows")
COLLECTION = DATABASE / "collections/code"


class InterruptedRunError(Exception):
    """Stands for a process that dies."""


def projection() -> Path:
    (folder,) = DATABASE.glob("collections/dresd_projection_*")
    return folder


def cut(folder: Path, pattern: str) -> None:
    """Leave the first half of these files."""
    paths = [*folder.glob(pattern)]
    assert paths
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])


def change(write: Callable[[MilvusStore, Rows], object]) -> None:
    with MilvusStore.open(str(DATABASE), "code") as store:
        write(store, next(store.scan()))


def delete(store: MilvusStore, rows: Rows) -> None:
    store.client.delete("code", ids=rows.pk[::3].tolist())


def add(store: MilvusStore, rows: Rows) -> None:
    store.write(replace(rows, pk=rows.pk + (1 << 50)))


def alter(store: MilvusStore, rows: Rows) -> None:
    store.write(replace(rows, next_tokens=rows.next_tokens[::-1]), replace=True)


def drop_index(store: MilvusStore, rows: Rows) -> None:
    store.client.release_collection("code")
    store.client.drop_index("code", "vector")


AGAIN = "loaded again"

DAMAGE: dict[str, tuple[Callable[[], object], str]] = {
    "rows lost": (lambda: change(delete), AGAIN),
    "rows too many": (lambda: change(add), AGAIN),
    "other rows": (lambda: change(alter), AGAIN),
    "no index": (lambda: change(drop_index), ""),
    "index cut": (lambda: cut(COLLECTION, "partitions/*/indexes/*"), ""),
    "rows' file cut": (lambda: cut(COLLECTION, "partitions/*/data/*"), AGAIN),
    "rows' file gone": (lambda: shutil.rmtree(COLLECTION / "partitions"), AGAIN),
    "manifest cut": (lambda: cut(COLLECTION, "manifest*"), AGAIN),
    "manifest gone": (lambda: [path.unlink() for path in COLLECTION.glob("manifest*")], AGAIN),
    "schema cut": (lambda: cut(COLLECTION, "schema.json"), AGAIN),
    "schema gone": (lambda: (COLLECTION / "schema.json").unlink(), AGAIN),
    "collection gone": (lambda: shutil.rmtree(COLLECTION), AGAIN),
    "database gone": (lambda: shutil.rmtree(DATABASE), AGAIN),
    "projection gone": (lambda: shutil.rmtree(projection()), "projection.* written again"),
    "projection's rows cut": (lambda: cut(projection(), "partitions/*/data/*"), "projection.* written again"),
    "projection's manifest cut": (lambda: cut(projection(), "manifest*"), "projection.* written again"),
    "projection's schema cut": (lambda: cut(projection(), "schema.json"), "projection.* written again"),
    "projection's schema gone": (lambda: (projection() / "schema.json").unlink(), "projection.* written again"),
}
"""(what is done to a database, what the command says when it has mended it) by name."""

SEALED = ("rows lost", "rows' file cut", "index cut", "schema cut", "schema gone", "database gone", "projection gone")
"""Damage to a sealed store, which is counted and not read."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", 8)


def make(state: str, sample: LoadedModel, corpus: Path, folder: Path) -> Path:
    def interrupted(*_: object, **__: object) -> None:
        raise InterruptedRunError

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        if state == "sealed":
            build(sample, corpus, DATABASE, shard_size=1500)
        else:
            patch.setattr(MilvusStore, "seal", interrupted)
            with pytest.raises(InterruptedRunError):
                build(sample, corpus, DATABASE, shard_size=1500)
    return folder


@pytest.fixture(scope="module")
def loaded(sample: LoadedModel, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database that is loaded and not sealed, and its run."""
    return make("loaded", sample, corpus, tmp_path_factory.mktemp("loaded"))


@pytest.fixture(scope="module")
def sealed(sample: LoadedModel, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sealed database, and its run without the files of rows."""
    return make("sealed", sample, corpus, tmp_path_factory.mktemp("sealed"))


def content(uri: Path) -> tuple[int, str, list[float]]:
    with MilvusStore.open(str(uri), "code") as store:
        found = inspect_store(store.require_sealed())
        rows = next(store.scan())
        assert store.search(rows.vectors[:1], None, 1).continuations.size  # its index can be searched
        return found["rows"], found["checksum"], store.projection().bias.tolist()


@pytest.fixture(scope="module")
def whole(sealed: Path) -> tuple[int, str, list[float]]:
    return content(sealed / DATABASE)


def enter(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(state, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_store_that_is_not_sealed_is_mended_by_the_same_command(
    sample: LoadedModel, corpus: Path, loaded: Path, whole: tuple[int, str, list[float]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str,
) -> None:  # fmt: skip
    enter(loaded, tmp_path, monkeypatch)
    damage, said = DAMAGE[name]
    damage()
    capsys.readouterr()
    build(sample, corpus, DATABASE, shard_size=1500)
    assert_said(said, capsys)
    assert content(DATABASE) == whole
    assert not ROWS.exists()


@pytest.mark.parametrize("name", SEALED)
def test_a_sealed_store_is_mended_or_says_how_it_is_made_anew(
    sample: LoadedModel, corpus: Path, sealed: Path, whole: tuple[int, str, list[float]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str,
) -> None:  # fmt: skip
    enter(sealed, tmp_path, monkeypatch)
    damage, said = DAMAGE[name]
    damage()
    capsys.readouterr()
    try:
        build(sample, corpus, DATABASE, shard_size=1500)
        assert_said(said, capsys)
    except StoreError as error:
        assert said == AGAIN and "--replace" in str(error) and "\n" not in str(error)
        build(sample, corpus, DATABASE, replace_old=True, shard_size=1500)
    assert content(DATABASE) == whole


def assert_said(pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line matches the pattern; none speaks of mending without one."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "again" in line]
    assert len(lines) == bool(pattern)
    assert all(re.search(pattern, line) for line in lines)


@pytest.mark.parametrize("file", ["aliases.json", "database_properties.json"])
def test_a_damaged_file_of_the_whole_database_is_named_and_nothing_is_dropped(
    sample: LoadedModel, corpus: Path, loaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    enter(loaded, tmp_path, monkeypatch)
    (DATABASE / file).write_text("{")
    with pytest.raises(StoreError, match=f"a.db/{file} is damaged; remove it, run the same command again"):
        build(sample, corpus, DATABASE, shard_size=1500)
    assert (COLLECTION / "schema.json").exists()


def test_replacing_that_was_killed_is_done_by_the_same_command(
    sample: LoadedModel, corpus: Path, sealed: Path, whole: tuple[int, str, list[float]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    enter(sealed, tmp_path, monkeypatch)
    rmtree = shutil.rmtree

    def dies_after_the_plan(folder: Path | str, **options: Any) -> None:
        if not Path(folder, "plan.json").exists():
            return rmtree(folder, **options)
        Path(folder, "plan.json").unlink()
        rmtree(Path(folder, "documents"))
        raise InterruptedRunError

    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        patch.setattr(shutil, "rmtree", dies_after_the_plan)
        build(sample, corpus, DATABASE, replace_old=True, shard_size=1500)
    build(sample, corpus, DATABASE, replace_old=True, shard_size=1500)
    assert content(DATABASE) == whole


@pytest.mark.parametrize("damage", ["manifest cut", "schema cut"])
def test_a_list_names_a_damaged_collection_and_shows_the_others(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    enter(sealed, tmp_path, monkeypatch)
    build_collection(str(DATABASE), "other").close()
    DAMAGE[damage][0]()
    shown = dresd(capsys, "store", "list", "--uri", DATABASE)
    lines = {line.split()[0]: line for line in shown.out.splitlines()}
    assert shown.code == 0 and "sealed" in lines["other"] and "cannot be read" in lines["code"]

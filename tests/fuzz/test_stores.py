"""A store whose files are cut, changed, emptied, removed or another's opens as it was, or is refused by name."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dresd_milvus.errors import DresdError
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.suffix_store import SuffixStore
from dresd_milvus.storage.inspection import inspect_store
from dresd_milvus.storage.transfer import export_store, import_store
from dresd_milvus.systems.sources import Where, open_sources
from tests.fuzz.conftest import EXAMPLES
from tests.samples import build, write_corpus

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(24 * 3600)]

TRIALS = max(EXAMPLES // 5, 20)
Damage = Callable[[Path, Path, random.Random], None]


def cut(path: Path, other: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content) + 1)])


def flip(path: Path, other: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[chance.randrange(len(content))] ^= chance.randint(1, 255)
    path.write_bytes(content)


def swap(path: Path, other: Path, chance: random.Random) -> None:
    """The file of the same name of another store."""
    if other.exists():
        shutil.copy(other, path)


def remove(path: Path, other: Path, chance: random.Random) -> None:
    path.unlink()


DAMAGES: tuple[Damage, ...] = (cut, flip, swap, remove)


@pytest.fixture(scope="module")
def stores(sample: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders, each with a store, a replica, a suffix store and an export, of other rows."""
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for folder, documents in zip(folders, (20, 25), strict=True):
        build(sample, write_corpus(folder / "corpus.jsonl", documents), folder / "a.db", also="rest")
        sources = open_sources(Where(str(folder / "a.db"), "code"), ["hybrid"], sample)
        sources.close()
        replica = next(folder.rglob("high.npy"))
        shutil.copytree(replica.parent, folder / "replica")
        shutil.copytree(folder / "a.run" / "suffixes", folder / "suffixes")
        with MilvusStore.open(str(folder / "a.db"), "code") as store:
            export_store(store, folder / "export")
    return folders


def content(kind: str, folder: Path) -> list[bytes]:
    """All that a reader would read."""
    if kind == "replica":
        replica = Replica.open(folder)
        return [np.asarray(part).tobytes() for part in (*replica.rows.keys, *replica.rows[1:], replica.starts)]
    if kind == "suffixes":
        suffixes = SuffixStore(folder)
        return [np.asarray(part).tobytes() for part in (*suffixes.arrays, suffixes.ends, suffixes.of_document)]
    uri = folder.with_suffix(".db")
    try:
        import_store(folder, str(uri), "again")
        with MilvusStore.open(str(uri), "again") as store:
            return [inspect_store(store)["checksum"].encode()]
    finally:
        shutil.rmtree(uri, ignore_errors=True)


@pytest.mark.parametrize("kind", ["replica", "suffixes", "export"])
def test_a_damaged_file_is_refused_or_changes_nothing(stores: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    whole, chance, refused = content(kind, stores[0] / kind), random.Random(kind), 0
    trials = TRIALS if kind != "export" else max(TRIALS // 10, 20)  # an import takes a second
    for number in range(trials):
        folder = tmp_path / str(number)
        shutil.copytree(stores[0] / kind, folder)
        (folder / "verified.json").unlink(missing_ok=True)
        names = sorted(path.name for path in folder.iterdir())
        for name in chance.sample(names, chance.randint(1, 2)):
            chance.choice(DAMAGES)(folder / name, stores[1] / kind / name, chance)
        try:
            assert content(kind, folder) == whole, number
        except DresdError as error:
            assert str(folder) in str(error) or kind == "export", error
            refused += 1
        shutil.rmtree(folder)
    assert refused > trials // 3

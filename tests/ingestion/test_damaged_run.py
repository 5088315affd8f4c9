"""A damaged file of a run folder: the same command ends well, or with one line that names the file or its folder."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import dresd, exit_code
from tests.samples import write_corpus

Capture = pytest.CaptureFixture[str]

DAMAGES = 2_000
"""Of the long form."""


def flipped(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ chance.randrange(1, 256)]) + content[at + 1 :]


KINDS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "empty": lambda content, chance: b"",
    "cut": lambda content, chance: content[: chance.randrange(len(content))],
    "flipped": flipped,
    "gone": lambda content, chance: None,
}


class Interrupted:
    """A run that was interrupted before loading, with everything it has written; `restore` brings that back."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.spare = folder / "run", folder / "spare"
        corpus = write_corpus(folder / "corpus.jsonl", 6)
        self.command = ("ingest", "run", "--source", corpus, "--uri", folder / "a.db", "--collection", "code")
        self.command += ("--run-dir", self.folder, "--dim", "8", "--shard-size", "1500", "--index", "FLAT")
        assert exit_code(*self.command, "--keep-rows") == 0
        for phase in ("load", "seal"):
            shutil.rmtree(self.folder / phase)
        shutil.rmtree(folder / "a.db")
        self.folder.rename(self.spare)
        files = [path.relative_to(self.spare) for path in sorted(self.spare.rglob("*")) if path.is_file()]
        self.files = [path for path in files if path.suffix not in (".lock", ".png")]

    def restore(self) -> None:
        for folder in (self.folder, self.folder.with_name("a.db"), self.folder.with_name("a.db.dresd")):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.spare, self.folder)

    def damage(self, path: Path, kind: str, chance: random.Random) -> None:
        content = (self.spare / path).read_bytes()
        changed = KINDS[kind](content, chance) if content else None
        if changed is None:
            (self.folder / path).unlink()
        else:
            (self.folder / path).write_bytes(changed)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interrupted]:
    yield Interrupted(tmp_path_factory.mktemp("damaged"))


def require_success_or_one_line(capsys: Capture, run: Interrupted) -> bool:
    """Whether the command ended well."""
    done = dresd(capsys, *run.command)
    if done.code == 0:
        return True
    assert str(run.folder) in done.error and "; " in done.error, done
    return False


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", ["model.json", "embed/00000.done", "fit/00000.done", "projection.safetensors"])
def test_a_damaged_file_is_named_or_made_again(capsys: Capture, interrupted: Interrupted, name: str, kind: str) -> None:
    interrupted.restore()
    interrupted.damage(Path(name), kind, random.Random(name + kind))
    require_success_or_one_line(capsys, interrupted)


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_files_damaged_at_random(capsys: Capture, interrupted: Interrupted) -> None:
    """One to three files at a time."""
    chance, well = random.Random(0), 0
    for number in range(DAMAGES):
        interrupted.restore()
        for path in chance.sample(interrupted.files, chance.randint(1, 3)):
            interrupted.damage(path, chance.choice(list(KINDS)), chance)
        well += require_success_or_one_line(capsys, interrupted)
        if number % 100 == 99:
            with capsys.disabled():
                print(f"{number + 1} damages: {well} ended well, the others with one line", flush=True)

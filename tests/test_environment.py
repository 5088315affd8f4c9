"""Terminals, locales and places that are not the developer's: no traceback, and the right exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dresd_milvus.models.loading import LoadedModel
from tests.samples import build, write_corpus

ROOT = Path(__file__).parents[1]
DRESD = Path(sys.executable).with_name("dresd")


@pytest.fixture(scope="module")
def store(sample: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    build(sample, write_corpus(folder / "corpus.jsonl", 8), folder / "a.db")
    return folder / "a.db"


def run(*arguments: str | Path, shell: str = "", cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """`dresd ...` in a process of its own. shell: what follows the command, such as a redirection."""
    return subprocess.run(
        ["bash", "-c", f'"$0" "$@" {shell}', DRESD, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=cwd, capture_output=True, text=True, errors="replace", timeout=120,
    )  # fmt: skip


def inspected(store: Path) -> tuple[str | Path, ...]:
    return ("inspect", "--uri", store, "--collection", "code")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_text_that_the_terminal_lacks_is_escaped(store: Path, encoding: str) -> None:
    """The previews of rows have an arrow."""
    done = run(*inspected(store), PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and "\\u27f6" in done.stdout, done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(store: Path) -> None:
    done = run(*inspected(store), shell="| head -1")
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert done.stdout.startswith("collection")


def test_a_full_disk_behind_the_output_is_one_line(store: Path) -> None:
    done = run(*inspected(store), shell="> /dev/full")
    assert done.returncode == 1 and "No space left" in done.stderr and "Traceback" not in done.stderr


def test_no_colour_where_none_is_wanted(store: Path) -> None:
    done = run(*inspected(store), TERM="dumb", NO_COLOR="1", COLUMNS="1")
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr


def test_python_without_docstrings_is_refused() -> None:
    done = run("--help", PYTHONOPTIMIZE="2")
    assert done.returncode == 1 and "-OO" in done.stderr and "Traceback" not in done.stderr


def test_files_of_the_working_directory_are_not_imported(store: Path, tmp_path: Path) -> None:
    for name in ("random.py", "tokenizers.py", "datasets.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')")
    done = run(*inspected(store), cwd=tmp_path)
    assert done.returncode == 0 and "shadowed" not in done.stdout + done.stderr


def test_a_file_where_a_folder_should_be_is_named(store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("store", "export", "--uri", store, "--collection", "code", "--to", tmp_path / "file/out")
    assert done.returncode == 1 and "Not a directory" in done.stderr and "Traceback" not in done.stderr


def test_neither_home_nor_cache_need_be_there(store: Path) -> None:
    done = run(
        "generate", "hello", "--uri", store, "--collection", "code", "--model", "sample", "--max-new-tokens", "2",
        HOME="/proc", XDG_CACHE_HOME="/proc/cache",
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr

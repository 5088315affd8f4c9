"""kill -9 at random moments, then the same command again: the rows of an undisturbed run. `make soak`."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.samples import write_corpus

COMMAND = [sys.executable, "-m", "ingestion", "run", "--collection", "code", "--dim", "16"]


def checksum(uri: Path) -> tuple[int, str]:
    inspect = [sys.executable, "-c", "from dresd_milvus.cli import main; main()", "inspect", "--json"]
    done = subprocess.run(
        [*inspect, "--uri", uri, "--collection", "code"], capture_output=True, text=True, check=True, timeout=300
    )
    found = json.loads(done.stdout)
    return found["rows"], found["checksum"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, str], float]:
    """(the corpus, the checksum of its store, the seconds that an ingestion takes)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    corpus, start = write_corpus(folder / "corpus.jsonl", 300), time.monotonic()
    subprocess.run(
        [*COMMAND, "--source", corpus, "--uri", folder / "a.db"], check=True, capture_output=True, timeout=900
    )
    seconds = time.monotonic() - start
    return corpus, checksum(folder / "a.db"), seconds


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_random_moments(undisturbed: tuple[Path, tuple[int, str], float], tmp_path: Path, seed: int) -> None:
    corpus, expected, seconds = undisturbed
    chance, kills, ended = random.Random(seed), 0, 1
    while ended != 0:
        running = subprocess.Popen(
            [*COMMAND, "--source", corpus, "--uri", tmp_path / "a.db"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            ended = running.wait(timeout=None if kills >= 5 else chance.uniform(0.2, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            kills += 1
    print(f"killed {kills} times")
    assert kills > 0 and checksum(tmp_path / "a.db") == expected

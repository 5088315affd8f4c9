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


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_random_moments(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 1200)
    whole, killed = tmp_path / "whole.db", tmp_path / "killed.db"
    start = time.monotonic()
    subprocess.run([*COMMAND, "--source", corpus, "--uri", whole], check=True, capture_output=True, timeout=900)
    undisturbed = time.monotonic() - start
    chance, kills, ended = random.Random(0), 0, 1
    while ended != 0:
        running = subprocess.Popen([*COMMAND, "--source", corpus, "--uri", killed], stderr=subprocess.DEVNULL)
        try:
            ended = running.wait(timeout=None if kills >= 20 else chance.uniform(3, undisturbed))
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            kills += 1
    print(f"killed {kills} times")
    assert kills > 0 and checksum(killed) == checksum(whole)

"""Two ranks that share one model, started by the launchers that people use."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from dresd_milvus.errors import InputError
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.models.ranks import Ranks
from tests.milvus_server import free_ports
from tests.samples import write_corpus

ROOT = Path(__file__).parent.parent.parent
LAUNCHERS = {
    "deepspeed": ["deepspeed.launcher.runner", "--num_accelerators", "2", "--module"],
    "torchrun": ["torch.distributed.run", "--nproc-per-node", "2", "-m"],
}


def environment(port: int) -> dict[str, str]:
    """Of a machine without a GPU; with a port of its own."""
    return {
        **os.environ,
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": str(ROOT),
        "MASTER_PORT": str(port),
        "CUDA_VISIBLE_DEVICES": "",
    }


def launched(launcher: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    (port,), (program, *options) = free_ports(1), LAUNCHERS[launcher]
    command = [sys.executable, "-m", program, "--master_port", str(port), *options, *map(str, arguments)]
    return subprocess.run(command, env=environment(port), cwd=cwd, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ingested twice: by one process and by two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    write_corpus(folder / "corpus.jsonl", 12)
    arguments = [
        "run",
        "--source",
        folder / "corpus.jsonl",
        "--collection",
        "code",
        "--dim",
        "16",
        "--dtype",
        "float32",
    ]
    arguments += ["--shard-size", "1200", "--also", "rest", "--answers", "sampled", "--answer-tokens", "12"]
    alone = [sys.executable, "-m", "ingestion", *map(str, arguments), "--uri", str(folder / "one.db")]
    subprocess.run(alone, cwd=ROOT, check=True, timeout=240)
    done = launched("torchrun", "ingestion", *arguments, "--uri", folder / "two.db", "--tp", "2", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_ranks_that_share_a_model_ingest_what_one_process_does(store: Path) -> None:
    """The same answers, hence the same rows; keys but for rounding."""
    found = []
    for name in ("one", "two"):
        with MilvusStore.open(str(store / f"{name}.db"), "code") as opened:
            parts = list(opened.scan())
        keys, vectors, tokens = (
            np.concatenate([getattr(p, n) for p in parts]) for n in ("pk", "vectors", "next_tokens")
        )
        order = np.argsort(keys)
        found.append((keys[order], vectors[order], tokens[order]))
    one, two = found
    assert len(one[0]) > 100 and np.array_equal(one[0], two[0]) and np.array_equal(one[2], two[2])
    assert np.abs((one[1] * two[1]).sum(1) - 1).max() < 1e-4


SAMPLED = ("--temperature", "0.7", "--top-p", "0.95")


@pytest.mark.parametrize(
    "sampling", [pytest.param((), marks=pytest.mark.soak, id="greedy"), pytest.param(SAMPLED, id="sampled")]
)
def test_every_system_writes_on_two_ranks_what_it_writes_on_one(store: Path, tmp_path: Path, sampling: tuple) -> None:
    """From any folder, by DeepSpeed's launcher."""
    systems = "prompt_lookup,rest,suffix,small_lm,dense,hybrid"
    arguments = ["run", "--uri", store / "one.db", "--collection", "code", "--systems", systems, "--limit", "2"]
    arguments += ["--max-new-tokens", "16", "--dtype", "float32", *sampling]
    alone = [sys.executable, "-m", "evaluation", *map(str, arguments), "--out", str(tmp_path / "one")]
    subprocess.run(alone, cwd=ROOT, check=True, timeout=240)
    done = launched("deepspeed", "evaluation", *arguments, "--tp", "2", "--out", "two", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (
        {(r["system"], r["index"]): r["tokens"] for r in map(json.loads, (tmp_path / name / "records.jsonl").open())}
        for name in ("one", "two")
    )
    assert len(one) == 2 * 7 and one == two
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert all(run["identical"] == 2 for run in summary["runs"])


def test_a_failure_of_rank_0_ends_all_ranks_with_its_reason(store: Path, tmp_path: Path) -> None:
    done = launched(
        "torchrun", "evaluation", "run", "--uri", store / "none.db", "--collection", "code", "--tp", "2",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode != 0 and "error: there is no database" in done.stderr, done.stderr
    assert "error: rank 0 has failed" in done.stderr or "another rank" in done.stderr


def test_a_rank_that_dies_ends_the_run_with_a_message(store: Path, tmp_path: Path) -> None:
    """Killed in the middle of decoding; the launcher is told to leave the other alone, so that it must notice."""
    arguments = ["evaluation", "run", "--uri", store / "one.db", "--collection", "code", "--systems", "dense"]
    arguments += [
        "--limit",
        "20",
        "--max-new-tokens",
        "400",
        "--dtype",
        "float32",
        "--tp",
        "2",
        "--out",
        tmp_path / "o",
    ]
    base = {**environment(free_ports(1)[0]), "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    ranks = []
    for rank in ("0", "1"):
        with (tmp_path / f"{rank}.txt").open("w") as said:
            command = [sys.executable, "-m", *map(str, arguments)]
            named = {**base, "RANK": rank, "LOCAL_RANK": rank}
            ranks.append(psutil.Popen(command, env=named, cwd=ROOT, stdout=said, stderr=said))
    deadline = time.monotonic() + 120
    records = tmp_path / "o" / "records.jsonl"
    while not (records.exists() and records.stat().st_size):
        assert time.monotonic() < deadline and ranks[0].poll() is None, (tmp_path / "0.txt").read_text()
        time.sleep(0.2)
    ranks[1].send_signal(signal.SIGKILL)
    ranks[1].wait()
    assert ranks[0].wait(timeout=90) == 1
    assert "error: another rank of 2 has ended or does not answer" in (tmp_path / "0.txt").read_text()


def test_a_port_that_is_taken_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(InputError, match=f"cannot meet at 127.0.0.1:{port} .*--master_port"):
            Ranks.join(2, "cpu")

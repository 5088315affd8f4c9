"""The servers that the benchmark starts: what starts them, and that none outlives it."""

import os
import signal
import socket
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from evaluation.traffic.client import Address


@pytest.fixture(scope="module")
def serving(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("serving")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def test_a_server_runs_with_its_processes_until_the_block_ends(serving: ModuleType, tmp_path: Path) -> None:
    """As an engine's: a child of the process that was started answers."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "models").write_text("{}")
    port = free_port()
    answering = f"{sys.executable} -m http.server {port} --bind 127.0.0.1 --directory {tmp_path}"
    address = Address("a", f"http://127.0.0.1:{port}")
    shell = ["sh", "-c", f"echo $$ > {tmp_path}/group; {answering} & wait"]
    with serving.started(address, shell, tmp_path / "log") as given:
        assert given == address
        group = int((tmp_path / "group").read_text())
        os.killpg(group, 0)
    for _ in range(200):
        try:
            os.killpg(group, 0)
            time.sleep(0.02)
        except ProcessLookupError:
            return
    os.killpg(group, signal.SIGKILL)
    pytest.fail("a process of it is left")


def test_a_server_that_does_not_start_is_named_with_its_log(serving: ModuleType, tmp_path: Path) -> None:
    with (
        pytest.raises(SystemExit, match=r"the server a did not start; see .*log"),
        serving.started(Address("a", "http://127.0.0.1:1"), ["sh", "-c", "echo why; exit 3"], tmp_path / "log"),
    ):
        pytest.fail("it has not started")
    assert (tmp_path / "log").read_text() == "why\n"


def test_servers_differ_in_their_drafts_alone(serving: ModuleType) -> None:
    options = Namespace(model="sample", uri="s.db", collection="c", dtype="bfloat16", flags="--max-model-len 64")
    plain, ngram, dresd = (serving.server_command(name, 8100, options) for name in ("plain", "ngram", "dresd"))
    drafts = ngram.index("--speculative-config")
    assert ngram[:drafts] + ngram[drafts + 2 :] == plain and "prompt_lookup_max" in ngram[drafts + 1]
    flags = ["--dtype", "bfloat16", "--max-model-len", "64"]
    assert plain[-4:] == dresd[-4:] == flags and dresd[-5] == "--"
    assert dresd[dresd.index("--collection") + 1] == "c"

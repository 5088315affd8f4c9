"""A password is in nothing that a run shows or writes: output, files, and the command lines of its processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dresd_milvus.milvus import local_folder
from tests.milvus_server import MilvusServer
from tests.samples import write_corpus

DRESD = Path(sys.executable).with_name("dresd")
SECRETS = ("writer:Right-Pa55word", "writer:Wrong-Pa55word")


def shown(secret: str, text: bytes) -> bool:
    return secret.partition(":")[2].encode() in text


def run(secret: str, folder: Path, *arguments: str | Path) -> bytes:
    """Everything that a command prints; no process of it may have the secret in its command line."""
    log = folder / "printed"
    with log.open("ab") as out:
        environment = {**os.environ, "MILVUS_TOKEN": secret}
        process = psutil.Popen([DRESD, *map(str, arguments)], stdout=out, stderr=out, env=environment, cwd=folder)
        while process.poll() is None:
            for each in (process, *process.children(recursive=True)):
                try:
                    assert not shown(secret, " ".join(each.cmdline()).encode())
                except psutil.Error:
                    continue
            time.sleep(0.05)
    return log.read_bytes()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("secret", SECRETS, ids=["right", "wrong"])
def test_a_password_is_nowhere(secret: str, milvus_server: MilvusServer, tmp_path: Path) -> None:
    """Ingestion with two workers and an evaluation with drafts. The server has no users and accepts any password; the
    wrong one meets no server at all."""
    corpus = write_corpus(tmp_path / "corpus.jsonl", 12)
    uri = milvus_server.uri if secret == SECRETS[0] else "http://127.0.0.1:1"
    store = ("--uri", uri, "--collection", "secrets")
    run(
        secret, tmp_path, "ingest", "run", "--source", corpus, *store, "--dim", "16", "--workers", "2", "--shard-size",
        "4000", "--replace",
    )  # fmt: skip
    run(
        secret, tmp_path, "eval", "run", *store, "--systems", "dense", "--suite", corpus, "--limit", "1",
        "--max-new-tokens", "4", "--out", tmp_path / "out",
    )  # fmt: skip
    printed = run(secret, tmp_path, "store", "drop", *store)
    assert (b"is gone" in printed) == (secret == SECRETS[0]), printed
    assert b"Traceback" not in printed
    folders = (tmp_path, local_folder(uri))
    written = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 1 and not [path for path in written if shown(secret, path.read_bytes())]


@pytest.mark.parametrize("uri", ["http://writer:Right-Pa55word@127.0.0.1:19530", "https://a:Right-Pa55word@b/c"])
def test_a_password_in_an_address_is_not_repeated(uri: str, tmp_path: Path) -> None:
    command = [DRESD, "inspect", "--uri", uri, "--collection", "a"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 1 and not shown(SECRETS[0], done.stdout + done.stderr)

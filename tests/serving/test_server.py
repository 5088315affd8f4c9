"""A real server process under many clients, some of which are rude: right texts, no 5xx, no leak, a clean end.

`make soak` sends 10,000 requests; SERVE_REQUESTS sets another number.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2 as httpx
import psutil
import pytest

from dresd_milvus.models.checkpoint import SAMPLE
from dresd_milvus.models.loading import LoadedModel
from tests.milvus_server import free_ports
from tests.samples import build, write_corpus

ROOT = Path(__file__).parents[2]
DRESD = ROOT / ".venv-vllm/bin/dresd"
REQUESTS, CLIENTS = int(os.environ.get("SERVE_REQUESTS", "10000")), 32
CORPORA, CONTEXT, TOKENS = ("one", "two"), 128, 16
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "2"}
FLAGS = f"--enforce-eager --max-model-len {CONTEXT} --max-num-seqs 16 --dtype float32".split()

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not DRESD.exists(), reason="vLLM's environment is missing; make vllm"),
    pytest.mark.timeout(3 * 3600),
]


class Server(NamedTuple):
    """A running `dresd serve`, and prompts that it can answer."""

    process: subprocess.Popen[bytes]
    url: str
    prompts: list[str]

    def memory(self) -> int:
        """Bytes of all of its processes."""
        return sum(process.memory_info().rss for process in self.family())

    def family(self) -> list[psutil.Process]:
        """The process and all that it has started."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


@pytest.fixture
def server(sample: LoadedModel, tmp_path: Path) -> Iterator[Server]:
    lines = write_corpus(tmp_path / "all.jsonl", 80).read_text().splitlines(keepends=True)
    for number, name in enumerate(CORPORA):
        (tmp_path / f"{name}.jsonl").write_text("".join(lines[number::2]))
    build(sample, tuple(f"{name}={tmp_path / name}.jsonl" for name in CORPORA), tmp_path / "a.db", also="rest")
    (port,) = free_ports(1)
    command = [str(DRESD), "serve", "--model", SAMPLE, "--uri", str(tmp_path / "a.db"), "--collection", "code"]
    command += ["--port", str(port), "--require-corpus", "--", *FLAGS]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT})
    asked = [f"Question: {json.loads(line)['instruction']}\nAnswer:\n" for line in lines]
    prompts = [text for text in asked if len(sample.tokenizer(text).input_ids) <= CONTEXT - TOKENS]
    try:
        for _ in range(300):
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        yield Server(process, f"http://127.0.0.1:{port}", prompts)
    finally:
        for one in (*psutil.Process(process.pid).children(recursive=True), process) if process.poll() is None else ():
            one.kill()  # its engine's processes would outlive it


class Clients:
    """32 clients that share a list of requests to send. statuses: of their answers. wrong: texts that are not right."""

    def __init__(self, server: Server, right: dict[str, str]) -> None:
        self.server, self.right, self.chance = server, right, random.Random(0)
        self.left, self.statuses, self.wrong = REQUESTS, Counter[str](), list[tuple[str, str]]()

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self.server.url, timeout=120) as client:
            await asyncio.gather(*(self.work(client) for _ in range(CLIENTS)))

    async def work(self, client: Any) -> None:
        while self.left > 0:
            self.left -= 1
            kind = self.chance.choices(["right", "leave", "long", "broken", "nobody"], [80, 8, 4, 4, 4])[0]
            try:
                self.statuses[f"{kind} {await getattr(self, f'send_{kind}')(client)}"] += 1
            except httpx.TimeoutException:
                self.statuses[f"{kind} left"] += 1

    async def send_right(self, client: Any) -> int:
        prompt = self.chance.choice(self.server.prompts)
        answer = await client.post("/v1/completions", json=body(prompt, self.chance.choice(CORPORA)))
        if answer.status_code == 200 and (text := answer.json()["choices"][0]["text"]) != self.right[prompt]:
            self.wrong.append((prompt, text))
        return int(answer.status_code)

    async def send_leave(self, client: Any) -> int:
        """Go away before the answer is there."""
        wait = self.chance.uniform(0.001, 0.1)
        content = body(self.chance.choice(self.server.prompts), CORPORA[0])
        return int((await client.post("/v1/completions", json=content, timeout=wait)).status_code)

    async def send_long(self, client: Any) -> int:
        return int((await client.post("/v1/completions", json=body("word " * 500, CORPORA[0]))).status_code)

    async def send_broken(self, client: Any) -> int:
        content = self.chance.choice([b"{", b"[]", b"null", b'{"model": 1}', b"\xff", b'{"vllm_xargs": 3}'])
        headers = {"Content-Type": "application/json"}
        return int((await client.post("/v1/completions", content=content, headers=headers)).status_code)

    async def send_nobody(self, client: Any) -> int:
        corpus = self.chance.choice([None, "three", "", 7])
        return int((await client.post("/v1/completions", json=body("def ", corpus))).status_code)


def body(prompt: str, corpus: Any) -> dict[str, Any]:
    xargs = {} if corpus is None else {"dresd_corpus": corpus}
    return {"model": SAMPLE, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "vllm_xargs": xargs}


def test_many_rude_clients(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=120) as client:  # one at a time, drafts turned off
        right = {}
        for prompt in server.prompts:
            content = body(prompt, CORPORA[0])
            content["vllm_xargs"]["dresd_draft_tokens"] = 0
            right[prompt] = client.post("/v1/completions", json=content).json()["choices"][0]["text"]
    clients = Clients(server, right)
    begun = server.memory()
    asyncio.run(clients.run())
    print(dict(clients.statuses), f"{begun / 1e6:,.0f} MB, then {server.memory() / 1e6:,.0f} MB")
    assert not clients.wrong and clients.statuses["right 200"] > REQUESTS // 2
    assert not [told for told in clients.statuses if told.split()[1].startswith("5")]
    assert {told for told in clients.statuses if told.split()[0] in ("long", "broken", "nobody")} <= {
        "long 400", "broken 400", "broken 422", "nobody 400",
    }  # fmt: skip
    assert server.memory() - begun < 200e6
    family = server.family()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) in (0, -signal.SIGTERM, 143)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive

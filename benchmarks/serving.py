"""Measures `dresd serve` beside plain vLLM and vLLM's own `ngram`: tokens a second at 1, 4, 16 and 64 requests at once.

On: a model and a store of its, in bfloat16. All servers run side by side, each on a port of its own, and take turns
(see dresd eval traffic), so that a slow minute of the machine meets all alike; each takes some 3 GB on a CPU. All
requests of a round come at once, twice as many as are in flight, ten at least. No prompt is asked twice, so that no
server has answered it before: the default needs 900 prompts, --rounds 3 540.
Run, in the environment of vLLM: PYTHONPATH=. .venv-vllm/bin/python benchmarks/serving.py --uri S.db --collection C \\
    --flags="--enforce-eager --max-model-len 2048"
    On a CPU set what docs/serving.md says in the environment. --servers plain,ngram,suffix,nothing,dresd names others:
    `suffix` needs the package arctic-inference, `nothing` PYTHONPATH=.:benchmarks.
Prints: a table in Markdown; --out (a folder) gets the results of each number and the table.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from common import arguments

from dresd_milvus.console import Phases
from dresd_milvus.files.atomic import atomic_folder, write_text
from dresd_milvus.serving.launch import identify
from evaluation.prompts import load_suite
from evaluation.reporting.report import markdown_table
from evaluation.running.provenance import origin
from evaluation.traffic.client import Address
from evaluation.traffic.load import Load
from evaluation.traffic.measuring import Asked, replay
from evaluation.traffic.report import table, write_results

OWN = {
    "plain": None,
    "ngram": {"method": "ngram", "num_speculative_tokens": 6, "prompt_lookup_min": 2, "prompt_lookup_max": 4},
    "suffix": {"method": "suffix", "num_speculative_tokens": 6},
    "nothing": {"method": "custom_class", "model": "serving_nothing.Nothing", "num_speculative_tokens": 6},
}
"""vLLM without this project: its speculative configuration by name. `nothing` calls a drafter that proposes nothing."""

START_SECONDS = 900
"""Longest time of a server's start; compiling takes minutes."""


def main() -> None:
    options = arguments(
        __doc__ or "", model="smollm2", uri="", collection="", servers="plain,ngram,dresd", suite="gsm8k",
        tokens=64, rounds=5, concurrency="1,4,16,64", dtype="bfloat16", flags="", port=8100,
    )  # fmt: skip
    out = options.out or Path("runs/serving")
    levels = [int(number) for number in options.concurrency.split(",")]
    shares = [options.rounds * max(2 * level, 10) for level in levels]
    prompts = load_suite(options.suite, sum(shares)).prompts
    if len(prompts) < sum(shares):
        sys.exit(f"{sum(shares)} prompts are needed and {options.suite} has {len(prompts)}; name another --suite")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended, not orphaned
    out.mkdir(parents=True)
    with ExitStack() as running, Phases() as phases:
        addresses = []
        for number, name in enumerate(options.servers.split(",")):
            phases.phase(f"starting {name}", None, "")
            address = Address(name, f"http://127.0.0.1:{options.port + number}")
            command = server_command(name, options.port + number, options)
            addresses.append(running.enter_context(started(address, command, out / f"{name}.log")))
        lines: list[list[str]] = []
        left = iter(prompts)
        for level, share in zip(levels, shares, strict=True):
            phases.message(f"{level} at once")
            part = list(islice(left, share))
            load = Load(concurrency=level, rounds=options.rounds)
            asked = Asked([prompt.text for prompt in part], None, options.tokens)
            measured = replay(addresses, asked, load, phases)
            given = {name: str(value) for name, value in vars(options).items()}
            with atomic_folder(out / f"at-{level}") as folder:
                runs = write_results(measured, part, {"provenance": origin(given)}, True, folder)
            headings, *cells = table(runs)
            lines += [["at once", *headings]] * (not lines) + [[str(level), *line] for line in cells]
            write_text(out / "table.md", markdown_table(lines, left=2))
    print(markdown_table(lines, left=2))


def server_command(name: str, port: int, options: Namespace) -> list[str]:
    """The command that starts a server by its name, see OWN."""
    flags = ["--dtype", options.dtype, *shlex.split(options.flags)]
    if name not in OWN:
        store = ["--model", options.model, "--uri", options.uri, "--collection", options.collection]
        dresd = "from dresd_milvus.cli.main import main; main()"
        return [sys.executable, "-c", dresd, "serve", *store, "--port", str(port), "--", *flags]
    drafts = ["--speculative-config", json.dumps(OWN[name])] if OWN[name] else []
    folder, *_ = identify(options.model)
    place = ["--served-model-name", options.model, "--host", "127.0.0.1", "--port", str(port)]
    server = "vllm.entrypoints.openai.api_server"
    return [sys.executable, "-m", server, "--model", folder, *place, *drafts, *flags]


@contextmanager
def started(address: Address, command: Sequence[str], log: Path) -> Iterator[Address]:
    """Have a server run, with its engine's processes, until the block ends; exits with its log's name if it fails."""
    with log.open("w") as file:
        # A process group of its own, to be ended with its engine's processes, but no session of its own: Linux shares
        # processor time out among sessions, and the client must not get less.
        server = subprocess.Popen(command, stdout=file, stderr=file, preexec_fn=os.setpgrp)
    try:
        wait(address, server, log)
        yield address
    finally:
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(server.pid, sent)
                server.wait(30)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def wait(address: Address, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers."""
    until = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{address.url}/v1/models", timeout=5).close()
            return
        except OSError:
            time.sleep(1)
    sys.exit(f"the server {address.name} did not start; see {log}")


if __name__ == "__main__":
    main()

"""`dresd eval traffic`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dresd_milvus.console import Phases
from dresd_milvus.errors import InputError
from dresd_milvus.files.atomic import atomic_folder
from dresd_milvus.options import with_options
from evaluation.options import MaxNewTokensOption, SuiteOptions
from evaluation.traffic.load import Load

app = typer.Typer()


@app.command()
@with_options
def traffic(
    server: Annotated[
        list[str], typer.Option(help="Server NAME=http://HOST:PORT; repeatable, the first is compared with.")
    ],
    asked: SuiteOptions,
    load: Load,
    template: Annotated[
        str | None,
        typer.Option(help="Template of prompts, text with {prompt}; default: chats, in the server's own template."),
    ] = None,
    max_new_tokens: MaxNewTokensOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the results; it must not exist yet.")] = Path("runs/traffic"),
) -> None:
    """Send a stream of prompts to OpenAI-compatible servers in turns; print a table, write results and a figure.

    An open loop: requests arrive at their times, and a latency counts from the arrival. The key of the servers is read
    from OPENAI_API_KEY. Ctrl-C keeps what was measured.
    """
    from dresd_milvus.corpus import Template
    from dresd_milvus.corpus.chat import CHAT
    from evaluation.running.provenance import origin
    from evaluation.traffic.client import parse_address, require_client
    from evaluation.traffic.measuring import Asked, replay
    from evaluation.traffic.report import FILES, print_summary, write_results

    require_client()
    addresses = [parse_address(text) for text in server]
    if len({address.name for address in addresses}) < len(addresses):
        raise InputError("two servers have the same name; give each --server a name of its own")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already; name another folder with --out, or remove it")
    suite = asked.load()
    tokens = max_new_tokens or suite.max_new_tokens or 128
    put = None if template in (None, CHAT) else Template.parse(template)
    prompts = [prompt.text for prompt in suite.prompts]
    options = {**asdict(load), "rate": str(load.rate), "template": template, "max_new_tokens": tokens}
    about = {"suite": suite.name, "addresses": dict(addresses), "provenance": origin(options)}
    with atomic_folder(out) as folder, Phases() as phases:  # made first: a place that cannot be written is no surprise
        measured = replay(addresses, Asked(prompts, put, tokens), load, phases)
        runs = write_results(measured, suite.prompts, about, load.temperature == 0, folder)
    print_summary(runs)
    print(f"\nwritten: {out}/: {FILES}")
    if not measured.blocks[-1].whole:
        raise InputError(f"it was interrupted; what was measured is in {out}")

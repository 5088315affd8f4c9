"""`dresd`: the composition root. In dresd_milvus only cli/ and api.py import the packages around it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dresd_milvus.cli.serve import app as serving
from dresd_milvus.cli.store import app as store
from dresd_milvus.cli.talk import app as talk
from dresd_milvus.console import Phases, run_app
from dresd_milvus.options import CollectionOption, TokenOption, UriOption
from evaluation.cli import app as evaluation
from infra.cli import app as stack
from ingestion.cli import app as ingestion

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.registered_commands += talk.registered_commands + serving.registered_commands
for name, part in {"ingest": ingestion, "eval": evaluation, "store": store, "stack": stack}.items():
    app.add_typer(part, name=name)


@app.callback()
def root() -> None:
    """Dense retrieval for speculative decoding, on Milvus."""


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the database, the results and the report.")] = Path(
        "runs/quickstart"
    ),
) -> None:
    """Ingest Python's standard library with the sample model, measure on functions it held back, show one."""
    from dresd_milvus.cli.demo import quickstart

    quickstart(out)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the database, the results and the reports.")] = Path(
        "runs/demo"
    ),
    model: Annotated[str, typer.Option(help="Model to show: a name, a folder, or a hub name.")] = "smollm2",
) -> None:
    """Show what drafts do for a real chat model: problems of GSM8K, a store of its own answers and one of people's.

    Interrupted, the same command goes on where it was; run again, it shows what it found.
    """
    from dresd_milvus.cli.demo import demo

    demo(out, model)


@app.command()
def inspect(
    uri: UriOption,
    collection: CollectionOption,
    recall: Annotated[bool, typer.Option("--recall", help="Recall of each search plan; takes time.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Output as one JSON object.")] = False,
    token: TokenOption = "",
) -> None:
    """Show what is in a collection: rows, checksum, index, manifest, a few readable rows."""
    from dresd_milvus.milvus import MilvusStore
    from dresd_milvus.storage.inspection import inspect_store, print_inspection
    from dresd_milvus.storage.reading import readable
    from dresd_milvus.storage.recall import measure_recall

    with Phases() as phases, MilvusStore.open(readable(uri, phases), collection, token) as store:
        phases.phase("reading the rows", store.manifest.rows or None, "rows")
        content = inspect_store(store, progress=phases.advance)
        if recall:
            phases.phase("measuring recall", 2 * content["rows"], "rows")
            content["recall"] = [plan._asdict() for plan in measure_recall(store.require_sealed(), phases.advance)]
    if as_json:
        print(json.dumps(content, ensure_ascii=False, indent=2))
    else:
        print_inspection(uri, collection, content)


def main() -> None:
    """The console script."""
    run_app(app, "dresd")

"""`dresd ingest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dresd_milvus.options import (
    DeviceOption,
    IndexOption,
    PartitionByOption,
    PartitionsOption,
    TokenOption,
    UriOption,
    VectorsOption,
)

if TYPE_CHECKING:
    from dresd_milvus.store import Manifest

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """Build a collection: run the model over a corpus and put its states with what followed them into Milvus."""


@app.command()
def run(
    source: Annotated[str, typer.Option(help="A .json/.jsonl/.jsonl.gz file, a folder of text or code, or 'stdlib'.")],
    uri: UriOption,
    collection: Annotated[str, typer.Option(help="The collection to build.")],
    model: Annotated[str, typer.Option(help="'sample', a model folder, or a hub name.")] = "sample",
    prompt_key: Annotated[str | None, typer.Option(help="The row's prompt; default: found.")] = None,
    response_key: Annotated[str | None, typer.Option(help="The row's response; default: found.")] = None,
    template: Annotated[
        str,
        typer.Option(help="What a prompt goes into; holds {prompt} or {instruction}, \\n is a line break."),
    ] = "Question: {instruction}\\nAnswer:\\n",
    limit: Annotated[int | None, typer.Option(min=1, help="Documents at most.")] = None,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens of a document at most.")] = 1024,
    continuation: Annotated[int, typer.Option(min=1, max=4096, help="N, tokens kept after every state.")] = 20,
    dim: Annotated[int, typer.Option(min=1, help="Dimensions of a key.")] = 64,
    fit_tokens: Annotated[int, typer.Option(min=1, help="States that the projection is fitted on.")] = 1_000_000,
    index: IndexOption = "auto",
    vectors: VectorsOption = "float32",
    partition_by: PartitionByOption = "none",
    partitions: PartitionsOption = 64,
    run_dir: Annotated[Path | None, typer.Option(help="Progress and projection; default: beside the database.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
    device: DeviceOption = "auto",
    token: TokenOption = "",
    replace: Annotated[bool, typer.Option("--replace", help="Drop the collection and its run first.")] = False,
) -> None:
    """Plan, fit, embed, load and seal; after an interruption the same command goes on where it was."""
    from dresd_milvus.console import Phases
    from dresd_milvus.corpus import Template
    from dresd_milvus.loading import load_model
    from dresd_milvus.milvus import sidecar
    from ingestion.plan import Settings
    from ingestion.runner import ingest

    parsed = None if Path(source).is_dir() else Template.parse(template).text
    with Phases() as phases:
        phases.phase(f"loading the model {model}", None, "")
        loaded = load_model(model, dtype, device)
        settings = Settings.of(
            loaded,
            source=source,
            collection=collection,
            uri=uri,
            template=parsed,
            prompt_key=prompt_key,
            response_key=response_key,
            limit=limit,
            max_length=max_length,
            continuation=continuation,
            dim=dim,
            fit_tokens=fit_tokens,
            index=index,
            vectors=vectors,
            partition_by=partition_by,
            partitions=partitions if partition_by == "token" else 0,
        )
        folder = run_dir or sidecar(uri) / "runs" / collection
        manifest = ingest(loaded, settings, folder, phases, replace_old=replace, token=token)
    print_summary(uri, collection, manifest)


def print_summary(uri: str, collection: str, manifest: Manifest) -> None:
    """What was built, in a few lines."""
    from rich.table import Table

    from dresd_milvus.console import wide_console

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in (
        ("collection", f"{collection} in {uri}"),
        ("rows", f"{manifest.rows:,} from {manifest.documents:,} documents of {manifest.source}"),
        ("keys", f"{manifest.dim} dimensions, projection {manifest.projection}"),
        ("continuation", f"{manifest.continuation} tokens a row"),
        ("model", f"{manifest.model} ({manifest.model_fingerprint})"),
        ("sealed", f"{manifest.seal} at {manifest.sealed_at}"),
    ):
        table.add_row(name, value)
    wide_console().print(table)

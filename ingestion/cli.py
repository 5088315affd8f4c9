"""`dresd ingest`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dresd_milvus.options import DeviceOption, LocalRankOption, TokenOption, TpOption, UriOption, with_options
from ingestion.options import CollectionToBuild, settings

if TYPE_CHECKING:
    from dresd_milvus.models.loading import LoadedModel
    from dresd_milvus.retrieval.store import Manifest
    from ingestion.planning.job import Job
    from ingestion.planning.plan import Settings
    from ingestion.run import Run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

RunDirOption = Annotated[
    Path | None, typer.Option("--run-dir", help="Plan, progress and projection; default: beside the database.")
]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", help="i/n: take every n-th shard from i on, for job arrays; under torchrun: its rank."),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=1, help="Processes that generate and embed: one a GPU, or CPU cores.")
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Drop the collection and its run first.")]
BulkOption = Annotated[
    str | None,
    typer.Option("--bulk", help="Load by the server's bulk import, through its bucket: file:///DIR or s3://..."),
]
KeepRowsOption = Annotated[bool, typer.Option("--keep-rows", help="Leave the Parquet files of rows in the run folder.")]


@app.callback()
def root(local_rank: LocalRankOption = 0) -> None:
    """Build a collection: run the model over a corpus and put its states with what followed them into Milvus."""


@app.command()
@with_options(settings)
def run(
    settings: Any,
    run_dir: RunDirOption = None,
    workers: WorkersOption = 1,
    shard: ShardOption = None,
    bulk: BulkOption = None,
    device: DeviceOption = "auto",
    tp: TpOption = 1,
    token: TokenOption = "",
    keep_rows: KeepRowsOption = False,
    replace: ReplaceOption = False,
) -> None:
    """Plan, fit, embed, load and seal; after an interruption the same command goes on where it was."""
    from dresd_milvus.console import Phases
    from ingestion.runner import ingest

    def work(model: LoadedModel | None) -> None:
        with Phases() as phases:
            manifest = ingest(
                settings,
                _folder(run_dir, settings.uri, settings.collection),
                phases,
                model=model,
                device=device,
                token=token,
                replace_old=replace,
                keep_rows=keep_rows,
                workers=workers,
                job=_job(shard, tp),
                bulk=bulk,
            )
        if manifest:
            print_summary(settings.uri, settings.collection, manifest)

    _work(settings, tp, workers, device, work)


@app.command()
@with_options(settings)
def plan(settings: Any, run_dir: RunDirOption = None, token: TokenOption = "", replace: ReplaceOption = False) -> None:
    """Read the sources once and divide them into shards; the commands below need no more than the run folder."""
    from dresd_milvus.console import Phases
    from ingestion.runner import drop
    from ingestion.runner import plan as make

    folder = _folder(run_dir, settings.uri, settings.collection)
    with Phases() as phases:
        if replace:
            drop(folder, settings.uri, settings.collection, token)
        made = make(settings, folder, phases, token=token)
    print(f"{made.documents:,} documents, about {made.tokens:,} tokens, in {len(made.shards)} shards: {folder}")


@app.command()
def generate(
    run_dir: RunDirOption = None,
    uri: UriOption = "",
    collection: CollectionToBuild = "",
    workers: WorkersOption = 1,
    shard: ShardOption = None,
    device: DeviceOption = "auto",
    tp: TpOption = 1,
) -> None:
    """Have the model answer the prompts of a run planned with --answers greedy or sampled, or of a share of them."""
    from dresd_milvus.console import Phases
    from ingestion.runner import generate as generate_share

    def work(model: LoadedModel | None) -> None:
        with Phases() as phases:
            generate_share(_open(run_dir, uri, collection, "", device, model), phases, _job(shard, tp), workers)

    _work(_open(run_dir, uri, collection).plan.settings, tp, workers, device, work)


@app.command()
def fit(
    run_dir: RunDirOption = None,
    uri: UriOption = "",
    collection: CollectionToBuild = "",
    device: DeviceOption = "auto",
    tp: TpOption = 1,
) -> None:
    """Fit the projection of a planned run; fit/explained.png shows its axes."""
    from dresd_milvus.console import Phases

    def work(model: LoadedModel | None) -> None:
        going = _open(run_dir, uri, collection, "", device, model)
        with Phases() as phases:
            going.fit(phases)
        explained = float(going.projection.explained.sum())
        print(f"{going.projection.dim} dimensions explain {explained:.1%} of the variance")

    _work(_open(run_dir, uri, collection).plan.settings, tp, 1, device, work)


@app.command()
def embed(
    run_dir: RunDirOption = None,
    uri: UriOption = "",
    collection: CollectionToBuild = "",
    workers: WorkersOption = 1,
    shard: ShardOption = None,
    device: DeviceOption = "auto",
    tp: TpOption = 1,
) -> None:
    """Write the rows of a fitted run's shards, or of a share of them, as Parquet files."""
    from dresd_milvus.console import Phases
    from ingestion.runner import embed as embed_share

    def work(model: LoadedModel | None) -> None:
        with Phases() as phases:
            embed_share(_open(run_dir, uri, collection, "", device, model), phases, _job(shard, tp), workers)

    _work(_open(run_dir, uri, collection).plan.settings, tp, workers, device, work)


@app.command()
def load(
    run_dir: RunDirOption = None,
    uri: UriOption = "",
    collection: CollectionToBuild = "",
    shard: ShardOption = None,
    bulk: BulkOption = None,
    token: TokenOption = "",
) -> None:
    """Send the rows of embedded shards, or of a share of them, to the database."""
    from dresd_milvus.console import Phases

    going = _open(run_dir, uri, collection, token)
    with Phases() as phases:
        going.load(_job(shard), phases, bulk)


@app.command()
def seal(
    run_dir: RunDirOption = None,
    uri: UriOption = "",
    collection: CollectionToBuild = "",
    token: TokenOption = "",
    keep_rows: KeepRowsOption = False,
) -> None:
    """Index, count and seal the collection of a run whose shards are all loaded."""
    from dresd_milvus.console import Phases
    from ingestion.seal import seal as seal_run

    going = _open(run_dir, uri, collection, token)
    with Phases() as phases:
        manifest = seal_run(going, phases, keep_rows)
    print_summary(going.plan.settings.uri, going.plan.settings.collection, manifest)


@app.command()
def status(
    run_dir: RunDirOption = None,
    uri: UriOption = "",
    collection: CollectionToBuild = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Every phase and shard of a run, and how far it is."""
    import json

    from ingestion.status import print_status
    from ingestion.status import status as read

    content = read(_open(run_dir, uri, collection))
    if as_json:
        print(json.dumps(content, indent=2))
    else:
        print_status(content)


def _folder(run_dir: Path | None, uri: str, collection: str) -> Path:
    from dresd_milvus.errors import InputError
    from ingestion.planning.run_folder import default_run_folder

    if run_dir is None and not (uri and collection):
        raise InputError("say which run: give --run-dir, or --uri and --collection")
    return run_dir or default_run_folder(uri, collection)


def _open(
    run_dir: Path | None,
    uri: str,
    collection: str,
    token: str = "",
    device: str = "auto",
    model: LoadedModel | None = None,
) -> Run:
    from ingestion.run import Run

    return Run.open(_folder(run_dir, uri, collection), token, device, model)


def _work(settings: Settings, tp: int, workers: int, device: str, work: Callable[[LoadedModel | None], None]) -> None:
    """Do it here, or with a model that a launcher's ranks share."""
    from dresd_milvus.errors import InputError
    from dresd_milvus.models.loading import load_model
    from dresd_milvus.models.parallel import run_on_all_ranks

    if tp == 1:
        work(None)
    elif workers > 1:
        raise InputError("ranks that share a model are one worker; give --workers 1, and --shard for several of them")
    else:
        run_on_all_ranks(tp, device, lambda: load_model(settings.model, settings.dtype, device, tp), work)


def _job(text: str | None, tp: int = 1) -> Job:
    """--shard, else the rank that torchrun or the DeepSpeed launcher gave this process, unless ranks share a model."""
    from ingestion.planning.job import SINGLE_JOB, Job

    if text is not None:
        return Job.parse(text)
    return Job(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))) if tp == 1 else SINGLE_JOB


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

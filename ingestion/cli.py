"""`dresd ingest`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dresd_milvus.console import Phases, print_facts
from dresd_milvus.errors import InputError
from dresd_milvus.options import DeviceOption, LocalRankOption, TokenOption, TpOption, UriOption, with_options
from dresd_milvus.retrieval.names import check_name
from ingestion.options import CollectionToBuild, Settings
from ingestion.planning.job import SINGLE_JOB, Job

if TYPE_CHECKING:
    from dresd_milvus.models.loading import LoadedModel
    from dresd_milvus.retrieval.store import Manifest
    from ingestion.run import Run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

RunDirOption = Annotated[
    Path | None, typer.Option(help="Folder of plan, progress and projection; default: beside the database.")
]
ShardOption = Annotated[
    str | None,
    typer.Option(help="Share i/n of the shards: every n-th from i on, for job arrays; under torchrun: its rank."),
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Removal of the collection and its run first.")]
BulkOption = Annotated[
    str | None, typer.Option(help="Bucket of the server, for its bulk import: file:///DIR or s3://...; default: none.")
]
KeepRowsOption = Annotated[bool, typer.Option("--keep-rows", help="Keeping the Parquet files of rows afterwards.")]


@dataclass(frozen=True)
class Named:
    """The run that a phase goes on with."""

    run_dir: RunDirOption = None
    uri: UriOption = ""
    collection: CollectionToBuild = ""

    def open(self, token: str = "", device: str = "auto", model: LoadedModel | None = None) -> Run:
        """Raises InputError when no run is named, or there is none."""
        from ingestion.run import Run

        return Run.open(_folder(self.run_dir, self.uri, self.collection), token, device, model)


@dataclass(frozen=True)
class Work:
    """How the model's work is divided over processes, ranks and machines."""

    device: DeviceOption = "auto"
    tp: TpOption = 1
    workers: Annotated[
        int, typer.Option(min=1, help="Number of processes that generate and embed: one per GPU, or CPU cores.")
    ] = 1
    shard: ShardOption = None

    @property
    def job(self) -> Job:
        """The job that is done here. Raises InputError for a text that names none."""
        return _job(self.shard, self.tp)

    def do(self, settings: Settings, work: Callable[[LoadedModel | None], None]) -> None:
        """Do it here, or with a model that a launcher's ranks share. Raises InputError for workers beside ranks."""
        if self.tp > 1 and self.workers > 1:
            raise InputError(
                "ranks that share a model are one worker; give --workers 1, and --shard for several of them"
            )
        _on_ranks(settings, self.device, self.tp, work)


@app.callback()
def root(local_rank: LocalRankOption = 0) -> None:
    """Build a collection: run the model over a corpus and put its states with what followed them into Milvus."""


@app.command()
@with_options
def run(
    settings: Settings,
    work: Work,
    run_dir: RunDirOption = None,
    bulk: BulkOption = None,
    token: TokenOption = "",
    keep_rows: KeepRowsOption = False,
    replace: ReplaceOption = False,
) -> None:
    """Plan, fit, embed, load and seal; after an interruption the same command goes on where it was."""
    from ingestion import runner

    folder = _folder(run_dir, settings.uri, settings.collection)

    def ingest(model: LoadedModel | None) -> None:
        with Phases() as phases:
            manifest = runner.ingest(
                settings, folder, phases, model=model, device=work.device, token=token, replace_old=replace,
                keep_rows=keep_rows, workers=work.workers, job=work.job, bulk=bulk,
            )  # fmt: skip
        if manifest:
            print_summary(settings.uri, settings.collection, manifest)

    work.do(settings, ingest)


@app.command()
@with_options
def plan(
    settings: Settings, run_dir: RunDirOption = None, token: TokenOption = "", replace: ReplaceOption = False
) -> None:
    """Read the sources once and divide them into shards; the commands below need no more than the run folder."""
    from ingestion import runner

    folder = _folder(run_dir, settings.uri, check_name(settings.collection))
    with Phases() as phases:
        if replace:
            runner.drop(folder, settings.uri, settings.collection, token)
        made = runner.plan(settings, folder, phases, token=token)
    print(f"{made.documents:,} documents, about {made.tokens:,} tokens, in {len(made.shards)} shards: {folder}")


@app.command()
@with_options
def generate(named: Named, work: Work) -> None:
    """Have the model answer the prompts of a run planned with --answers greedy or sampled, or of a share of them."""
    from ingestion import runner

    def answer(model: LoadedModel | None) -> None:
        with Phases() as phases:
            runner.generate(named.open("", work.device, model), phases, work.job, work.workers)

    work.do(named.open().plan.settings, answer)


@app.command()
@with_options
def fit(named: Named, device: DeviceOption = "auto", tp: TpOption = 1) -> None:
    """Fit the projection of a planned run; fit/explained.png shows its axes."""

    def fit_run(model: LoadedModel | None) -> None:
        going = named.open("", device, model)
        with Phases() as phases:
            going.fit(phases)
        explained = float(going.projection.explained.sum())
        print(f"{going.projection.dim} dimensions explain {explained:.1%} of the variance")

    _on_ranks(named.open().plan.settings, device, tp, fit_run)


@app.command()
@with_options
def embed(named: Named, work: Work) -> None:
    """Write the rows of a fitted run's shards, or of a share of them, as Parquet files."""
    from ingestion import runner

    def embed_run(model: LoadedModel | None) -> None:
        with Phases() as phases:
            runner.embed(named.open("", work.device, model), phases, work.job, work.workers)

    work.do(named.open().plan.settings, embed_run)


@app.command()
@with_options
def load(named: Named, shard: ShardOption = None, bulk: BulkOption = None, token: TokenOption = "") -> None:
    """Send the rows of embedded shards, or of a share of them, to the database."""
    going = named.open(token)
    with Phases() as phases:
        going.load(_job(shard), phases, bulk)


@app.command()
@with_options
def seal(named: Named, token: TokenOption = "", keep_rows: KeepRowsOption = False) -> None:
    """Index, count and seal the collection of a run whose shards are all loaded."""
    from ingestion.seal import seal as seal_run

    going = named.open(token)
    with Phases() as phases:
        manifest = seal_run(going, phases, keep_rows)
    print_summary(going.plan.settings.uri, going.plan.settings.collection, manifest)


@app.command()
@with_options
def status(named: Named, as_json: Annotated[bool, typer.Option("--json", help="Output as JSON.")] = False) -> None:
    """Every phase and shard of a run, and how far it is."""
    from ingestion.status import print_status
    from ingestion.status import status as read_status

    content = read_status(named.open())
    if as_json:
        print(json.dumps(content, indent=2))
    else:
        print_status(content)


def _folder(run_dir: Path | None, uri: str, collection: str) -> Path:
    from ingestion.planning.run_folder import default_run_folder

    if run_dir is None and not (uri and collection):
        raise InputError("say which run: give --run-dir, or --uri and --collection")
    return run_dir or default_run_folder(uri, collection)


def _on_ranks(settings: Settings, device: str, tp: int, work: Callable[[LoadedModel | None], None]) -> None:
    """Do it with a model that a launcher's ranks share; with one rank the work loads the model itself."""
    from dresd_milvus.models.loading import load_model
    from dresd_milvus.models.parallel import run_on_all_ranks

    if tp == 1:
        work(None)
    else:
        run_on_all_ranks(tp, device, lambda: load_model(settings.model, settings.dtype, device, tp), work)


def _job(text: str | None, tp: int = 1) -> Job:
    """--shard, else the rank that torchrun or the DeepSpeed launcher gave this process, unless ranks share a model."""
    if text is not None:
        return Job.parse(text)
    return Job(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))) if tp == 1 else SINGLE_JOB


def print_summary(uri: str, collection: str, manifest: Manifest) -> None:
    """What was built, in a few lines."""
    print_facts(
        {
            "collection": f"{collection} in {uri}",
            "rows": f"{manifest.rows:,} from {manifest.documents:,} documents of {manifest.source}",
            "keys": f"{manifest.dim} dimensions, projection {manifest.projection}",
            "continuation": f"{manifest.continuation} tokens a row",
            "model": f"{manifest.model} ({manifest.model_fingerprint})",
            "sealed": f"{manifest.seal} at {manifest.sealed_at}",
        }
    )

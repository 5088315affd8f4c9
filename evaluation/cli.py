"""`dresd eval`."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dresd_milvus.console import Phases
from dresd_milvus.corpus.conversation import choose_template
from dresd_milvus.options import (
    DecodingOptions,
    DraftModelOption,
    GraphsOption,
    LocalRankOption,
    ModelOptions,
    TpOption,
    with_options,
)
from dresd_milvus.systems.registry import drafting, parse_systems
from dresd_milvus.systems.sources import Sources, Where, open_sources
from evaluation.offline.sweep import parse_axis, run_sweep
from evaluation.offline_cli import app as offline
from evaluation.options import MaxNewTokensOption, NeighboursOption, PromptOptions, SystemsOption
from evaluation.original import OriginalOptions
from evaluation.prompts import SUITES, about_suite
from evaluation.reporting.report import accepted_from, print_table
from evaluation.traffic_cli import app as traffic

if TYPE_CHECKING:
    from dresd_milvus.models.loading import LoadedModel

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.registered_commands += [*offline.registered_commands, *traffic.registered_commands]


@app.callback()
def root(local_rank: LocalRankOption = 0) -> None:
    """Measure systems side by side: speed, acceptance, losslessness."""


@app.command()
@with_options
def run(
    models: ModelOptions,
    where: Where,
    decoding: DecodingOptions,
    asked: PromptOptions,
    draft_model: DraftModelOption = None,
    systems: SystemsOption = "vanilla,prompt_lookup,dense",
    max_new_tokens: MaxNewTokensOption = None,
    out: Annotated[Path, typer.Option(help="Folder for records, summary and report.")] = Path("runs/eval"),
    replace: Annotated[bool, typer.Option("--replace", help="Removal of the results in --out first.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Number of repeats of everything; times are medians.")] = 1,
    tp: TpOption = 1,
    graphs: GraphsOption = False,
    neighbours: NeighboursOption = None,
    skip_long: Annotated[bool, typer.Option("--skip-long", help="Passing over prompts that leave no room.")] = False,
) -> None:
    """Generate from every prompt of a suite with every system; print a table, write results and a report.

    vanilla always runs. Interrupted, the same command goes on where it was.
    """
    from dresd_milvus.models.devices import pick_device
    from dresd_milvus.models.ranks import Ranks
    from evaluation.running.harness import Options
    from evaluation.running.runner import Evaluation, run_evaluation

    names = parse_systems(systems)
    where.check(names)
    decoding.sampler()  # refuse bad values before loading
    ranks = Ranks.join(tp, pick_device(models.device).type)
    with ranks.fail_together(), Phases(silent=not ranks.first) as phases:
        suite = asked.load()
        model = models.load(phases, tp, graphs)
        sources = _open(where, names, model, phases, draft_model) if ranks.first else Sources()
        with closing(sources):
            put = ranks.broadcast(
                lambda: choose_template(model.tokenizer, asked.template, sources.manifest, suite.template)
            )
            tokens = max_new_tokens or suite.max_new_tokens or 128
            options = Options(**asdict(decoding), max_new_tokens=tokens, repeats=repeats)
            drafts = (
                f"draft model {draft_model or 'the sample'}",
                f"search timeout {where.timeout:g}",
                f"graphs {graphs}",
            )
            what = Evaluation(suite, names, put, options, out, replace, neighbours, skip_long, drafts)
            summary = run_evaluation(what, model, sources, phases, ranks)
    if summary:
        _show(summary, sources, out)


def _show(summary: dict[str, Any], sources: Sources, out: Path) -> None:
    print_table(summary["runs"])
    if shares := accepted_from(summary["runs"]):
        print(f"\naccepted draft tokens by source: {shares}")
    if sources.failure_summary():
        print(f"\nwarning: {sources.failure_summary()}")
    print(f"\nwritten: {out}/summary.json, table.md, records.jsonl, report.html, spec-bench/")


def _open(where: Where, systems: list[str], model: LoadedModel, phases: Phases, draft_model: str | None) -> Sources:
    """The sources of the systems; a line says so where exact matches will come from the running text alone."""
    sources = open_sources(where, systems, model, phases, draft_model)
    if sources.suffixes is None and "suffix" in drafting(systems):
        phases.message("there is no suffix store (dresd ingest run --also rest): suffix matches the running text alone")
    return sources


@app.command()
def suites() -> None:
    """The suites that have a name."""
    print("stdlib         functions of Python's standard library that ingestion holds back")
    for name in SUITES:
        about = about_suite(name)
        where = "shipped" if "file" in about else about.get("hub") or f"a file: {name}=FILE"
        print(f"{name:14} {about['description']}; {where}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def sweep(
    context: typer.Context,
    axis: Annotated[
        list[str], typer.Option(help="Axis OPTION=VALUE,VALUE,... of an option of dresd eval run; repeatable.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the cells and what is made of them.")] = Path("runs/sweep"),
) -> None:
    """Run every combination of the axes with the options of `dresd eval run`; print one table.

    The whole comparison: --axis temperature=0,0.7 --axis tp=1,2 --systems prompt_lookup,rest,suffix,small_lm,dense.
    Interrupted, the same command goes on where it was.
    """
    axes = [parse_axis(text) for text in axis]
    entries = run_sweep(axes, context.args, out, lambda line: print(line, file=sys.stderr, flush=True))
    print_table(entries, [name for name, _ in axes])
    print(f"\nwritten: {out}/table.md, sweep.json, sweep.png, cells/")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@with_options
def original(context: typer.Context, flags: OriginalOptions) -> None:
    """DReSD's evaluate.py: its flags, and after them any option of `dresd eval run`."""
    arguments = [*flags.arguments(), *context.args]
    typer.echo(f"dresd eval run {' '.join(arguments)}", err=True)
    typer.main.get_command(app).commands["run"].main(args=arguments, standalone_mode=False)  # type: ignore[attr-defined]

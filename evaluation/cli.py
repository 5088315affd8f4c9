"""`dresd eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dresd_milvus.decoding.loop import DEPTH
from dresd_milvus.options import (
    DepthOption,
    DeviceOption,
    DtypeOption,
    GraphsOption,
    LocalRankOption,
    MinPOption,
    ModelOption,
    NodesOption,
    PenaltyOption,
    SearchOption,
    SeedOption,
    SuffixesOption,
    TemperatureOption,
    TimeoutOption,
    TokenOption,
    TopKOption,
    TopPOption,
    TpOption,
)
from dresd_milvus.retrieval.circuit_breaker import SEARCH_SECONDS
from evaluation.offline_cli import app as offline
from evaluation.options import (
    LimitOption,
    StoreNameOption,
    StoreOption,
    SuiteOption,
    TemplateOption,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.registered_commands += offline.registered_commands


@app.callback()
def root(local_rank: LocalRankOption = 0) -> None:
    """Measure systems side by side: speed, acceptance, losslessness."""


@app.command()
def run(
    model: ModelOption = "sample",
    uri: StoreOption = None,
    collection: StoreNameOption = None,
    suffixes: SuffixesOption = None,
    draft_model: Annotated[str | None, typer.Option(help="For small_lm; default: the sample's.")] = None,
    suite: SuiteOption = "stdlib",
    systems: Annotated[str, typer.Option(help="Which, by comma; vanilla always runs.")] = "vanilla,prompt_lookup,dense",
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of one answer; default: the suite's, or 128.")
    ] = None,
    limit: LimitOption = None,
    out: Annotated[Path, typer.Option(help="Folder for records, summary and report.")] = Path("runs/eval"),
    replace: Annotated[bool, typer.Option("--replace", help="Start over what is in --out.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Generate everything so often; times are medians.")] = 1,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    top_k: TopKOption = 0,
    min_p: MinPOption = 0.0,
    repetition_penalty: PenaltyOption = 1.0,
    seed: SeedOption = 0,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    tp: TpOption = 1,
    graphs: GraphsOption = False,
    search: SearchOption = "auto",
    timeout: TimeoutOption = SEARCH_SECONDS,
    nodes: NodesOption = "auto",
    depth: DepthOption = DEPTH,
    neighbours: Annotated[int | None, typer.Option(min=1, help="Hits of a dense search; default 50.")] = None,
    template: TemplateOption = None,
    skip_long: Annotated[bool, typer.Option("--skip-long", help="Pass over prompts that leave no room.")] = False,
    token: TokenOption = "",
) -> None:
    """Generate from every prompt of a suite with every system; print a table, write results and a report.

    Interrupted, the same command goes on where it was.
    """
    from dresd_milvus.console import Phases
    from dresd_milvus.corpus.conversation import choose_template
    from dresd_milvus.decoding.sampling import make_sampler
    from dresd_milvus.models.devices import pick_device
    from dresd_milvus.models.loading import load_model
    from dresd_milvus.models.ranks import Ranks
    from dresd_milvus.systems.registry import Sources, Where, drafting, open_sources, parse_nodes, parse_systems
    from evaluation.prompts import load_suite
    from evaluation.reporting.report import print_table
    from evaluation.running.harness import Options
    from evaluation.running.runner import Evaluation, run_evaluation

    names = parse_systems(systems)
    where = Where(uri, collection, suffixes, draft_model, search, token, timeout)
    where.check(names)
    most = parse_nodes(nodes)
    make_sampler(temperature, top_p, seed, top_k, min_p, repetition_penalty)  # refuse bad ones before loading
    ranks = Ranks.join(tp, pick_device(device).type)
    with ranks.fail_together(), Phases(silent=not ranks.first) as phases:
        prompts = load_suite(suite, limit)
        phases.phase(f"loading the model {model}", None, "")
        loaded = load_model(model, dtype, device, tp, graphs)
        sources = open_sources(where, names, loaded, phases) if ranks.first else Sources()
        if ranks.first and sources.suffixes is None and "suffix" in drafting(names):
            phases.message(
                "there is no suffix store (dresd ingest run --also rest): suffix matches the running text alone"
            )
        put = ranks.broadcast(lambda: choose_template(loaded.tokenizer, template, sources.manifest, prompts.template))
        tokens = max_new_tokens or prompts.max_new_tokens or 128
        how = (temperature, top_p, top_k, min_p, repetition_penalty, seed)
        options = Options(tokens, *how, most, depth, repeats)
        drafting_by = (f"draft model {draft_model or 'the sample'}", f"search timeout {timeout:g}", f"graphs {graphs}")
        what = Evaluation(prompts, names, put, options, out, replace, neighbours, skip_long, drafting_by)
        try:
            summary = run_evaluation(what, loaded, sources, phases, ranks)
        finally:
            sources.close()
    if summary:
        print_table(summary["runs"])
        if sources.failure_summary():
            print(f"\nwarning: {sources.failure_summary()}")
        print(f"\nwritten: {out}/summary.json, table.md, records.jsonl, report.html, spec-bench/")


@app.command()
def suites() -> None:
    """The suites that have a name."""
    from evaluation.prompts import SUITES, about_suite

    print("stdlib         functions of Python's standard library that ingestion holds back")
    for name in SUITES:
        about = about_suite(name)
        where = "shipped" if "file" in about else about.get("hub") or f"a file: {name}=FILE"
        print(f"{name:14} {about['description']}; {where}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def sweep(
    context: typer.Context,
    axis: Annotated[list[str], typer.Option(help="OPTION=VALUE,VALUE,... of dresd eval run; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder for the cells and what is made of them.")] = Path("runs/sweep"),
) -> None:
    """Run every combination of the axes with the options of `dresd eval run`; print one table.

    The whole comparison: --axis temperature=0,0.7 --axis tp=1,2 --systems prompt_lookup,rest,suffix,small_lm,dense.
    Interrupted, the same command goes on where it was.
    """
    import sys

    from evaluation.offline.sweep import parse_axis, run_sweep
    from evaluation.reporting.report import print_sweep

    axes = [parse_axis(text) for text in axis]
    entries = run_sweep(axes, context.args, out, lambda line: print(line, file=sys.stderr, flush=True))
    print_sweep(entries, [name for name, _ in axes])
    print(f"\nwritten: {out}/table.md, sweep.json, sweep.png, cells/")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def original(
    context: typer.Context,
    dataset: Annotated[str, typer.Option(help="codealpaca, mt_bench, NAME=FILE or any suite.")],
    model: ModelOption = "sample",
    datastore: Annotated[str | None, typer.Option(help="The collection in PATH_PREFIX/store.db.")] = None,
    n_gpus: Annotated[int, typer.Option("--n_gpus", min=1, help="Ranks, started by the launcher.")] = 1,
    num_drafts: Annotated[int, typer.Option("--num_drafts", min=1)] = 10,
    len_drafts: Annotated[int, typer.Option("--len_drafts", min=1)] = 10,
    sd: Annotated[str | None, typer.Option(help="pld or small.")] = None,
    rest: Annotated[str, typer.Option(help="True for REST.")] = "False",
    dresd: Annotated[str, typer.Option(help="True for DReSD.")] = "False",
    max_tokens: Annotated[int, typer.Option("--max_tokens", min=1)] = 128,
    path_prefix: Annotated[Path, typer.Option("--path_prefix", help="Where stores and results lie.")] = Path("runs"),
) -> None:
    """DReSD's evaluate.py: its flags, and after them any option of `dresd eval run`."""
    from evaluation.original import translate

    arguments = translate(
        model=model, dataset=dataset, datastore=datastore, n_gpus=n_gpus, num_drafts=num_drafts, len_drafts=len_drafts,
        sd=sd, rest=rest.lower() == "true", dresd=dresd.lower() == "true", max_tokens=max_tokens,
        path_prefix=path_prefix,
    )  # fmt: skip
    typer.echo(f"dresd eval run {' '.join([*arguments, *context.args])}", err=True)
    typer.main.get_command(app).commands["run"].main(  # type: ignore[attr-defined]
        args=[*arguments, *context.args], standalone_mode=False
    )

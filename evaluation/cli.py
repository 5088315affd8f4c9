"""`dresd eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dresd_milvus.options import SEARCH_SECONDS, DeviceOption, DtypeOption, SearchOption, TimeoutOption, TokenOption

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """Measure systems side by side: speed, acceptance, losslessness."""


@app.command()
def run(
    model: Annotated[str, typer.Option(help="'sample', a model folder, or a hub name.")] = "sample",
    uri: Annotated[str | None, typer.Option(help="The database, for 'dense'.")] = None,
    collection: Annotated[str | None, typer.Option(help="The collection, for 'dense'.")] = None,
    suite: Annotated[str, typer.Option(help="'stdlib' or a .jsonl file with prompt, instruction or turns.")] = "stdlib",
    systems: Annotated[str, typer.Option(help="Which, by comma; vanilla always runs.")] = "vanilla,prompt_lookup,dense",
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 128,
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts at most.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for summary.json, records.jsonl and report.html.")] = Path(
        "runs/eval"
    ),
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus of this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    search: SearchOption = "auto",
    timeout: TimeoutOption = SEARCH_SECONDS,
    half: Annotated[bool, typer.Option("--half", help="Keep a replica's keys in half precision.")] = False,
    nodes: Annotated[int, typer.Option(min=0, help="Draft nodes a step.")] = 16,
    depth: Annotated[int, typer.Option(min=0, help="Tokens on one path.")] = 10,
    template: Annotated[str | None, typer.Option(help="Default: the store's.")] = None,
    token: TokenOption = "",
) -> None:
    """Generate from every prompt of a suite with every system; print a table, write results and a report."""
    from dresd_milvus.choose import make_chooser
    from dresd_milvus.console import Phases
    from dresd_milvus.errors import InputError
    from dresd_milvus.loading import load_model
    from dresd_milvus.retrieval import choose_template, open_retrieval
    from evaluation.harness import Options
    from evaluation.report import print_table
    from evaluation.runner import parse_systems, run_evaluation

    names = parse_systems(systems)
    if (uri is None) != (collection is None):
        raise InputError("a store is named by both --uri and --collection; one of them is missing")
    if "dense" in names and uri is None:
        raise InputError("the system 'dense' needs a store; give --uri and --collection, or other --systems")
    make_chooser(temperature, top_p, seed)  # refuse bad options before the model is loaded
    options = Options(max_new_tokens, temperature, top_p, seed, nodes, depth)
    with Phases() as phases:
        phases.phase(f"loading the model {model}", None, "")
        loaded = load_model(model, dtype, device)
        retrieval = None
        if uri and collection:
            retrieval = open_retrieval(uri, collection, loaded, search, token, half, timeout, phases.replica)
        prompt_template = choose_template(template, retrieval.manifest if retrieval else None)
        try:
            summary = run_evaluation(loaded, retrieval, prompt_template, suite, names, limit, options, out, phases)
        finally:
            if retrieval:
                retrieval.close()
    print_table(summary["runs"])
    if retrieval and retrieval.losses():
        print(f"\nwarning: {retrieval.losses()}")
    print(f"\nwritten: {out}/summary.json, records.jsonl, report.html")

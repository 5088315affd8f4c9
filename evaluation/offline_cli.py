"""`dresd eval intrinsic`, `record`, `replay` and `compare`: what is measured without generating, or after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dresd_milvus.decoding.loop import DEPTH
from dresd_milvus.options import (
    DeviceOption,
    DtypeOption,
    MinPOption,
    ModelOption,
    PenaltyOption,
    SearchOption,
    SeedOption,
    SuffixesOption,
    TemperatureOption,
    TimeoutOption,
    TokenOption,
    TopKOption,
    TopPOption,
)
from dresd_milvus.retrieval.circuit_breaker import SEARCH_SECONDS
from evaluation.options import (
    LimitOption,
    StoreNameOption,
    StoreOption,
    SuiteOption,
    TemplateOption,
)

app = typer.Typer()

NodesOption = Annotated[str, typer.Option("--nodes", help="Draft nodes a step, several by comma.")]
DepthOption = Annotated[int, typer.Option("--depth", min=1, help="Tokens on one path.")]


@app.command()
def intrinsic(
    model: ModelOption = "sample",
    uri: StoreOption = None,
    collection: StoreNameOption = None,
    suffixes: SuffixesOption = None,
    systems: Annotated[str, typer.Option(help="Which, by comma.")] = "dense,suffix,hybrid",
    texts: Annotated[str, typer.Option(help="Held-out texts: stdlib, or a source as of dresd ingest.")] = "stdlib",
    limit: Annotated[int, typer.Option(min=1, help="Texts at most.")] = 200,
    positions: Annotated[int, typer.Option(min=1, help="Where drafters are asked, in all texts together.")] = 3000,
    nodes: NodesOption = "4,8,16,32",
    depth: DepthOption = 16,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="layer=, dim=, neighbours=, continuation= or store= (shares): stores made in memory."),
    ] = None,
    source: Annotated[str, typer.Option(help="With --vary: the corpus of these stores.")] = "stdlib",
    store_tokens: Annotated[int, typer.Option(min=100, help="With --vary: tokens of the corpus at most.")] = 60_000,
    template: TemplateOption = None,
    out: Annotated[Path, typer.Option(help="Folder for intrinsic.json, table.md and intrinsic.png.")] = Path(
        "runs/intrinsic"
    ),
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    search: SearchOption = "auto",
    timeout: TimeoutOption = SEARCH_SECONDS,
    token: TokenOption = "",
) -> None:
    """Draft quality on known texts, without generating: the accepted length of every system by budget.

    With --vary, of dense retrieval by how its store is made: this is how layer, dimensions, K and N are chosen.
    """
    from dresd_milvus.console import Phases
    from dresd_milvus.corpus.conversation import choose_template
    from dresd_milvus.errors import InputError
    from dresd_milvus.models.loading import load_model
    from dresd_milvus.systems.registry import Where, make_drafter, open_sources, parse_systems
    from evaluation.offline.intrinsic import Shape, force, listener
    from evaluation.offline.study import Study, as_text, parse_vary, read_texts
    from evaluation.reporting.intrinsic_report import report_curves, report_systems
    from evaluation.running.provenance import provenance

    shapes = [Shape(count, depth) for count in parse_nodes(nodes)]
    axes = [parse_vary(text) for text in vary or []]
    names = [name for name in parse_systems(systems) if name != "vanilla"]
    if not names:
        raise InputError("vanilla drafts nothing; name other --systems")
    where = Where(uri, collection, suffixes, None, search, token, timeout=timeout)
    if not axes:
        where.check(names)
    with Phases() as phases:
        phases.phase(f"loading the model {model}", None, "")
        loaded = load_model(model, dtype, device)
        about = provenance(loaded, {"texts": texts, "positions": positions, "source": source if axes else None})
        if axes:
            put = choose_template(loaded.tokenizer, template)
            held = read_texts(loaded, texts, put, limit, held_back=True)
            corpus = read_texts(loaded, source, put, 10**9, held_back=False, tokens=store_tokens)
            phases.phase("reading corpus and texts, all layers", None, "")
            study = Study(loaded, corpus, held)
            phases.phase("asking", sum(len(settings) for _, settings in axes), "settings")
            curves: dict[str, list[dict[str, Any]]] = {}
            for name, settings in axes:
                for setting in settings:
                    curves.setdefault(name, []).append(study.run(setting, shapes, positions))
                    phases.advance(1)
            shown = report_curves(curves, about, out)
        else:
            sources = open_sources(where, names, loaded, phases)
            try:
                put = choose_template(loaded.tokenizer, template, sources.manifest)
                held = read_texts(loaded, texts, put, limit, held_back=True)
                phases.phase("asking", len(held), "texts")
                drafters = [make_drafter(name, sources) for name in names]
                asked = [as_text(encoded) for encoded in held]
                found = force(asked, listener(loaded), drafters, shapes, positions, phases.advance)
            finally:
                sources.close()
            shown = report_systems(found, {**sources.about(), "provenance": about}, out)
    print(shown)
    print(f"written: {out}/intrinsic.json, table.md, intrinsic.png")


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="Folder of the recording.")],
    model: ModelOption = "sample",
    suite: SuiteOption = "stdlib",
    limit: LimitOption = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 128,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    top_k: TopKOption = 0,
    min_p: MinPOption = 0.0,
    repetition_penalty: PenaltyOption = 1.0,
    seed: SeedOption = 0,
    template: TemplateOption = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
) -> None:
    """Have the target answer a suite and keep its tokens, its states and what its steps cost, for `replay`."""
    from dresd_milvus.console import Phases
    from dresd_milvus.corpus.conversation import Conversation, choose_template
    from dresd_milvus.decoding.sampling import make_sampler
    from dresd_milvus.models.loading import load_model
    from evaluation.offline.replay import record as make
    from evaluation.prompts import load_suite
    from evaluation.running.harness import Options, check_lengths

    make_sampler(temperature, top_p, seed, top_k, min_p, repetition_penalty)
    with Phases() as phases:
        prompts = load_suite(suite, limit)
        phases.phase(f"loading the model {model}", None, "")
        loaded = load_model(model, dtype, device)
        put = choose_template(loaded.tokenizer, template, suite=prompts.template)
        conversation = Conversation(loaded.tokenizer, put)
        check_lengths(loaded, conversation, prompts.prompts)
        phases.phase("recording", len(prompts.prompts), "texts")
        options = Options(max_new_tokens, temperature, top_p, top_k, min_p, repetition_penalty, seed)
        made = make(loaded, conversation, prompts.prompts, options, out, phases.advance)
    costs = ", ".join(f"{nodes}: {ms:.1f}" for nodes, ms in made.costs.items())
    print(f"{len(made.texts)} texts in {out}; milliseconds of a step by draft nodes: {costs}")


@app.command()
def replay(
    recording: Annotated[Path, typer.Argument(help="A folder that dresd eval record made.")],
    uri: StoreOption = None,
    collection: StoreNameOption = None,
    suffixes: SuffixesOption = None,
    systems: Annotated[str, typer.Option(help="Which, by comma; vanilla always runs.")] = "prompt_lookup,dense",
    nodes: Annotated[
        str, typer.Option(help="Draft nodes a step; auto: 16, and for hybrid as many as pay by the recorded costs.")
    ] = "16",
    depth: DepthOption = DEPTH,
    neighbours: Annotated[int | None, typer.Option(min=1, help="Hits of a dense search; default 50.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for records, summary and report.")] = Path("runs/replay"),
    search: SearchOption = "auto",
    timeout: TimeoutOption = SEARCH_SECONDS,
    token: TokenOption = "",
) -> None:
    """Decode a recording again, without its model: acceptance is real, the target's time is simulated."""
    from dresd_milvus.console import Phases
    from dresd_milvus.decoding.step_costs import StepCosts
    from dresd_milvus.errors import InputError
    from dresd_milvus.files.atomic import write_json
    from dresd_milvus.systems.registry import Where, make_drafter, must_know_costs, needs, open_sources, parse_systems
    from dresd_milvus.systems.registry import parse_nodes as parse_budget
    from evaluation.offline.replay import load_recording, recorded_model
    from evaluation.offline.replay import replay as decode
    from evaluation.reporting.report import print_table
    from evaluation.running.harness import Options
    from evaluation.running.provenance import provenance
    from evaluation.running.results import clear
    from evaluation.running.runner import write_results

    names, most = parse_systems(systems), parse_budget(nodes)
    if "draft_model" in needs(names):
        raise InputError("a recording has no texts for a draft model to read; leave small_lm out")
    where = Where(uri, collection, suffixes, None, search, token, timeout=timeout)
    where.check(names)
    with Phases() as phases:
        phases.phase("reading the recording", None, "")
        recorded = load_recording(recording)
        model = recorded_model(recorded)
        sources = open_sources(where, names, model, phases)
        try:
            costs = StepCosts(recorded.costs) if must_know_costs(names, most) else None
            drafters = [make_drafter(name, sources, neighbours, costs) for name in names]
            phases.phase("replaying", len(recorded.texts), "texts")
            records = decode(recorded, model, drafters, Options(nodes=most, depth=depth), phases.advance)
            settings = {"nodes": nodes, "depth": depth, "neighbours": neighbours, "recording": str(recording)}
            about = {**sources.about(), "simulated": {"recorded": recorded.about, "step_ms": recorded.costs}}
            out.mkdir(parents=True, exist_ok=True)
            clear(out)
            write_json(out / "run.json", settings)
            summary = write_results(
                out, str(recording), names, records, {**about, "provenance": provenance(model, settings)}
            )
        finally:
            sources.close()
    (out / "records.jsonl").write_text("".join(f"{line}\n" for line in map(_json, records)))
    print_table(summary["runs"])
    print("\nspeeds are simulated: drafts as they took here, the target's steps as they took where it was recorded")
    print(f"written: {out}/summary.json, table.md, records.jsonl, report.html")


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="The results of one run.")],
    b: Annotated[Path, typer.Argument(help="Those of another.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """B over A, system by system, over the prompts that both have, with 95 % intervals."""
    from evaluation.reporting.compare import compare as figures
    from evaluation.reporting.compare import table
    from evaluation.reporting.report import print_rows

    entries = figures(a, b)
    if as_json:
        print(_json(entries))
    else:
        print_rows(table(entries))


def parse_nodes(text: str) -> list[int]:
    """'4,8' -> [4, 8]; raises InputError for anything else."""
    from dresd_milvus.errors import InputError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--nodes is numbers by comma, such as 4,8,16, not '{text}'")
    return [int(part) for part in parts]


def _json(content: Any) -> str:
    import json

    return json.dumps(content, ensure_ascii=False)

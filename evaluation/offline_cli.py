"""`dresd eval intrinsic`, `record`, `replay` and `compare`: what is measured without generating, or after it."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dresd_milvus.console import Phases, print_rows
from dresd_milvus.corpus.conversation import Conversation, choose_template
from dresd_milvus.defaults import DEPTH
from dresd_milvus.errors import InputError
from dresd_milvus.options import DepthOption, ModelOptions, SamplingOptions, TemplateOption, parse_nodes, with_options
from dresd_milvus.systems.registry import must_know_costs, needs, parse_systems
from dresd_milvus.systems.sources import Sources, Where, open_sources
from evaluation.options import NeighboursOption, PromptOptions, SystemsOption
from evaluation.reporting.report import print_table

if TYPE_CHECKING:
    from dresd_milvus.models.loading import LoadedModel
    from evaluation.offline.intrinsic import Shape, Tally
    from evaluation.offline.replay import Recording
    from evaluation.offline.study import Axis

app = typer.Typer()


@dataclass(frozen=True)
class HeldOut:
    """The texts that drafts are compared with, kept out of every store, and the positions and budgets of drafts."""

    texts: Annotated[str, typer.Option(help="Held-out texts: stdlib, or a source as of dresd ingest.")] = "stdlib"
    limit: Annotated[int, typer.Option(min=1, help="Largest number of texts.")] = 200
    positions: Annotated[int, typer.Option(min=1, help="Number of positions that are asked, of all texts.")] = 3000
    nodes: Annotated[str, typer.Option(help="Draft nodes per step, several by comma.")] = "4,8,16,32"
    depth: Annotated[int, typer.Option(min=1, help="Longest path of a draft (tokens).")] = 16
    template: TemplateOption = None

    def shapes(self) -> list[Shape]:
        """The budgets. Raises InputError for --nodes that are no numbers."""
        from evaluation.offline.intrinsic import Shape

        parts = [part.strip() for part in self.nodes.split(",")]
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise InputError(f"--nodes is numbers by comma, such as 4,8,16, not '{self.nodes}'")
        return [Shape(int(part), self.depth) for part in parts]


@app.command()
@with_options
def intrinsic(
    models: ModelOptions,
    where: Where,
    held: HeldOut,
    systems: SystemsOption = "dense,suffix,hybrid",
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="Setting of stores made in memory: layer=, dim=, neighbours=, continuation=, store= (share)."
        ),
    ] = None,
    source: Annotated[str, typer.Option(help="Corpus of these stores, with --vary.")] = "stdlib",
    store_tokens: Annotated[int, typer.Option(min=100, help="Largest size of that corpus (tokens).")] = 60_000,
    out: Annotated[Path, typer.Option(help="Folder for intrinsic.json, table.md and intrinsic.png.")] = Path(
        "runs/intrinsic"
    ),
) -> None:
    """Draft quality on known texts, without generating: the accepted length of every system by budget.

    With --vary, of dense retrieval by how its store is made: this is how layer, dimensions, K and N are chosen.
    """
    from evaluation.offline.study import parse_vary
    from evaluation.reporting.intrinsic_report import report_curves, report_systems
    from evaluation.running.provenance import provenance

    held.shapes()  # refuse bad ones before loading
    axes = [parse_vary(text) for text in vary or []]
    names = [name for name in parse_systems(systems) if name != "vanilla"]
    if not names:
        raise InputError("vanilla drafts nothing; name other --systems")
    if not axes:
        where.check(names)
    with Phases() as phases:
        model = models.load(phases)
        settings = {"texts": held.texts, "positions": held.positions, "source": source if axes else None}
        about = provenance(model, settings)
        if axes:
            shown = report_curves(_vary(model, held, axes, source, store_tokens, phases), about, out)
        else:
            with closing(open_sources(where, names, model, phases)) as sources:
                found = _ask(model, held, names, sources, phases)
                shown = report_systems(found, {**sources.about(), "provenance": about}, out)
    print(shown)
    print(f"written: {out}/intrinsic.json, table.md, intrinsic.png")


def _vary(
    model: LoadedModel, held: HeldOut, axes: list[Axis], source: str, tokens: int, phases: Phases
) -> dict[str, list[dict[str, Any]]]:
    """What dense retrieval drafts, by what was varied and its settings."""
    from evaluation.offline.study import Study, read_texts

    template = choose_template(model.tokenizer, held.template)
    texts = read_texts(model, held.texts, template, held.limit, held_back=True)
    corpus = read_texts(model, source, template, 10**9, held_back=False, tokens=tokens)
    phases.phase("reading corpus and texts, all layers", None, "")
    study = Study(model, corpus, texts)
    phases.phase("asking", sum(len(settings) for _, settings in axes), "settings")
    curves: dict[str, list[dict[str, Any]]] = {}
    for name, settings in axes:
        for setting in settings:
            curves.setdefault(name, []).append(study.run(setting, held.shapes(), held.positions))
            phases.advance(1)
    return curves


def _ask(
    model: LoadedModel, held: HeldOut, systems: list[str], sources: Sources, phases: Phases
) -> dict[str, dict[Shape, Tally]]:
    """What every system drafts."""
    from dresd_milvus.systems.factory import make_drafter
    from evaluation.offline.intrinsic import force, listener
    from evaluation.offline.study import as_text, read_texts

    template = choose_template(model.tokenizer, held.template, sources.manifest)
    texts = [as_text(encoded) for encoded in read_texts(model, held.texts, template, held.limit, held_back=True)]
    phases.phase("asking", len(texts), "texts")
    drafters = [make_drafter(name, sources) for name in systems]
    return force(texts, listener(model), drafters, held.shapes(), held.positions, phases.advance)


@app.command()
@with_options
def record(
    out: Annotated[Path, typer.Option(help="Folder of the recording.")],
    models: ModelOptions,
    asked: PromptOptions,
    sampling: SamplingOptions,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer (tokens).")] = 128,
) -> None:
    """Have the target answer a suite and keep its tokens, its states and what its steps cost, for `replay`."""
    from evaluation.offline import replay as replaying
    from evaluation.running.harness import Options, check_lengths

    sampling.sampler()  # refuse bad values before loading
    with Phases() as phases:
        suite = asked.load()
        model = models.load(phases)
        template = choose_template(model.tokenizer, asked.template, suite=suite.template)
        conversation = Conversation(model.tokenizer, template)
        check_lengths(model, conversation, suite.prompts)
        phases.phase("recording", len(suite.prompts), "texts")
        options = Options(**asdict(sampling), max_new_tokens=max_new_tokens)
        made = replaying.record(model, conversation, suite.prompts, options, out, phases.advance)
    costs = ", ".join(f"{nodes}: {ms:.1f}" for nodes, ms in made.costs.items())
    print(f"{len(made.texts)} texts in {out}; milliseconds of a step by draft nodes: {costs}")


@app.command()
@with_options
def replay(
    recording: Annotated[Path, typer.Argument(help="Folder that dresd eval record made.")],
    where: Where,
    systems: SystemsOption = "prompt_lookup,dense",
    nodes: Annotated[
        int | None,
        typer.Option(
            parser=parse_nodes,
            metavar="NUMBER|auto",
            help="Draft nodes per step; auto: 16, and for hybrid as many as pay by the recorded costs.",
        ),
    ] = 16,
    depth: DepthOption = DEPTH,
    neighbours: NeighboursOption = None,
    out: Annotated[Path, typer.Option(help="Folder for records, summary and report.")] = Path("runs/replay"),
) -> None:
    """Decode a recording again, without its model: acceptance is real, the target's time is simulated.

    vanilla always runs.
    """
    from dresd_milvus.decoding.step_costs import StepCosts
    from dresd_milvus.systems.factory import make_drafter
    from evaluation.offline import replay as replaying
    from evaluation.running.harness import Options
    from evaluation.running.results import Results
    from evaluation.running.runner import write_results

    names = parse_systems(systems)
    if "draft_model" in needs(names):
        raise InputError("a recording has no texts for a draft model to read; leave small_lm out")
    where.check(names)
    with Phases() as phases:
        phases.phase("reading the recording", None, "")
        recorded = replaying.load_recording(recording)
        model = replaying.recorded_model(recorded)
        with closing(open_sources(where, names, model, phases)) as sources:
            costs = StepCosts(recorded.costs) if must_know_costs(names, nodes) else None
            drafters = [make_drafter(name, sources, neighbours, costs) for name in names]
            phases.phase("replaying", len(recorded.texts), "texts")
            options = Options(nodes=nodes, depth=depth)
            records = replaying.replay(recorded, model, drafters, options, phases.advance)
        settings = {"nodes": nodes, "depth": depth, "neighbours": neighbours, "recording": str(recording)}
        about = _about_replay(recorded, model, sources, settings)
        Results(out, settings, replace=True).add(records)
        summary = write_results(out, str(recording), names, records, about)
    print_table(summary["runs"])
    print("\nspeeds are simulated: drafts as they took here, the target's steps as they took where it was recorded")
    print(f"written: {out}/summary.json, table.md, records.jsonl, report.html")


def _about_replay(
    recorded: Recording, model: LoadedModel, sources: Sources, settings: dict[str, Any]
) -> dict[str, Any]:
    """What the records of a replay were made from, for its summary."""
    from evaluation.running.provenance import provenance

    simulated = {"recorded": recorded.about, "step_ms": recorded.costs}
    return {**sources.about(), "simulated": simulated, "provenance": provenance(model, settings)}


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Results of one run.")],
    b: Annotated[Path, typer.Argument(help="Results of another run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Output as JSON.")] = False,
) -> None:
    """B over A, system by system, over the prompts that both have, with 95 % intervals."""
    from evaluation.reporting import compare as comparing

    entries = comparing.compare(a, b)
    if as_json:
        print(json.dumps(entries, ensure_ascii=False))
    else:
        print_rows(comparing.table(entries))

"""One evaluation from start to end: open, check, generate, write."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dresd_milvus.corpus import Template
from dresd_milvus.corpus.conversation import Conversation
from dresd_milvus.decoding.loop import warm_up
from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.decoding.step_costs import StepCosts
from dresd_milvus.errors import InputError
from dresd_milvus.files.atomic import write_json
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.models.ranks import Ranks
from dresd_milvus.progress import Progress
from dresd_milvus.systems.registry import Sources, make_drafter, must_know_costs, step_costs
from evaluation.prompts import Suite
from evaluation.reporting.metrics import Record, summarise
from evaluation.reporting.report import write_report
from evaluation.reporting.spec_bench import write_answers
from evaluation.running.harness import Harness, Options, check_lengths
from evaluation.running.provenance import provenance
from evaluation.running.results import Results


@dataclass(frozen=True)
class Evaluation:
    """What is measured. systems: vanilla first; template: what prompts go into, 'chat' for the tokenizer's own; out:
    the folder of the results; replace: whether to start over what is there; drafting: what else decides how drafts are
    made, such as the small model and how a store is searched.
    """

    suite: Suite
    systems: Sequence[str]
    template: Template | str | None
    options: Options
    out: Path
    replace: bool = False
    neighbours: int | None = None
    skip_long: bool = False
    drafting: tuple[str, ...] = ()


def run_evaluation(
    what: Evaluation, model: LoadedModel, sources: Sources, progress: Progress, ranks: Ranks | None = None
) -> dict[str, Any]:
    """Measure the systems on a suite and write the results (see results.py); returns the summary.

    Goes on where an earlier run with the same settings was interrupted. On several ranks every one calls this, rank 0
    with the sources; the summary is rank 0's. Raises InputError before anything is written when something is amiss.
    """
    ranks = ranks or Ranks()
    conversation, prompts = Conversation(model.tokenizer, what.template), what.suite.prompts
    if what.skip_long:
        room = model.target.context - what.options.max_new_tokens
        prompts = [prompt for prompt in prompts if len(conversation.begin(prompt.text)) <= room]
        if not prompts:
            raise InputError(f"no prompt of {what.suite.name} leaves room for {what.options.max_new_tokens} tokens")
    check_lengths(model, conversation, prompts)
    drafters, costs = _make_drafters(what, model, sources, ranks)
    harness = Harness(model, drafters, conversation, prompts, what.options)
    settings = _settings(what, model, sources, ranks)
    results = Results(what.out, settings, what.replace) if ranks.first else None
    done = set(ranks.broadcast(lambda: results.done() if results else []))
    units = harness.units()
    if len(done) < len(units):
        progress.phase("warming up", None, "")
        harness.warm_up()
    progress.phase("generating", len(units), "prompts", len(done))
    for unit in units:
        if unit not in done:
            records = harness.run(unit)
            if results:
                results.add(records)
            progress.advance(1)
    if results is None:
        return {}
    if costs:
        costs.save()
    progress.phase("writing the report", None, "")
    about = {**sources.about(), "step_ms": costs.ms if costs else None, "provenance": provenance(model, settings)}
    return write_results(results.folder, what.suite.name, what.systems, results.records, about)


def _make_drafters(
    what: Evaluation, model: LoadedModel, sources: Sources, ranks: Ranks
) -> tuple[list[Drafter], StepCosts | None]:
    """The systems' drafters, ready on every rank, and what steps cost where that decides on drafts.

    Rank 0's costs are all ranks': it alone drafts, and learns.
    """
    costs = None
    if must_know_costs(what.systems, what.options.nodes):
        costs = ranks.broadcast(lambda: step_costs(model, ranks.world))
    made = [make_drafter(name, sources, what.neighbours, costs) if ranks.first else None for name in what.systems]
    for drafter in made:
        if drafter:
            warm_up(drafter, model.target.hidden_size, model.target.dtype)
    ranks.broadcast(lambda: None)  # the others wait as long as that takes
    return [ranks.broadcast_drafter(drafter, name) for drafter, name in zip(made, what.systems, strict=True)], costs


def write_results(
    out: Path, suite: str, systems: Sequence[str], records: Sequence[Record], about: dict[str, Any]
) -> dict[str, Any]:
    """Everything that is made from the records: the summary, the tables and the page."""
    runs = [
        {"system": system, "suite": suite, **summarise(ours, plain)}
        for plain in [[record for record in records if record["system"] == "vanilla"]]
        for system in systems
        for ours in [[record for record in records if record["system"] == system]]
    ]
    summary = {"runs": runs, **about}
    write_answers(out / "spec-bench", records)
    write_report(summary, out)
    write_json(out / "summary.json", summary)
    return summary


def _settings(what: Evaluation, model: LoadedModel, sources: Sources, ranks: Ranks) -> dict[str, Any]:
    """What decides the results: another value of any of these is another run."""
    template = what.template.text if isinstance(what.template, Template) else what.template
    prompts = hashlib.sha256(repr(what.suite.prompts).encode()).hexdigest()[:16]
    return {
        **asdict(what.options),
        "suite": what.suite.name,
        "prompts": f"{len(what.suite.prompts)} ({prompts})",
        "systems": list(what.systems),
        "template": template,
        "neighbours": what.neighbours,
        "skip_long": what.skip_long,
        "model": f"{model.name} ({model.fingerprint})",
        "dtype": model.dtype,
        "device": str(model.target.device.type),
        "ranks": ranks.world,
        "drafting": list(what.drafting),
        "store": sources.retrieval.manifest.seal if sources.retrieval else None,
        "search": sources.retrieval.search_mode if sources.retrieval else None,
        "suffixes": sources.suffixes.about if sources.suffixes else None,
    }

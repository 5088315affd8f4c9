"""`dresd quickstart` and `dresd demo`: ingest, measure and show, in one command each.

With cli.py and api.py the only part of the core that imports the packages around it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

QUICKSTART_DOCUMENTS = 800
QUICKSTART_PROMPTS = 16
QUICKSTART_TOKENS = 128
QUICKSTART_SYSTEMS = ("vanilla", "prompt_lookup", "rest", "dense", "hybrid")

DEMO_STORED = 80
"""Documents of each store: so many problems, with their published solutions or with the model's own answers."""

DEMO_PROMPTS, DEMO_TOKENS, DEMO_ANSWER_TOKENS = 6, 64, 96
DEMO_SYSTEMS = ("vanilla", "prompt_lookup", "suffix", "dense", "hybrid-dense", "hybrid")
DEMO_STORES = {"own": ("sampled", "the model's own answers"), "people": ("own", "people's answers")}
"""Of each collection: whose answers it holds, for ingestion and for people."""

DEMO_SHARD = 6_000
"""Characters of a shard, some twenty problems: answers are lost by the shard when the demo is interrupted."""


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the database, the results and the report.")] = Path(
        "runs/quickstart"
    ),
) -> None:
    """Ingest Python's standard library with the sample model, measure on functions it held back, show one."""
    from dresd_milvus.cli.speaker import Speaker
    from dresd_milvus.console import Phases, wide_console
    from dresd_milvus.corpus import Template
    from dresd_milvus.corpus.conversation import Conversation
    from dresd_milvus.decoding.sampling import Greedy
    from dresd_milvus.models.checkpoint import SAMPLE
    from dresd_milvus.models.loading import load_model
    from dresd_milvus.systems.prepared import prepare_drafter
    from dresd_milvus.systems.registry import Where, open_sources
    from evaluation.prompts import load_suite
    from evaluation.reporting.report import print_table
    from evaluation.running.harness import Options
    from evaluation.running.runner import Evaluation, run_evaluation
    from ingestion.cli import print_summary
    from ingestion.planning.plan import Settings
    from ingestion.runner import ingest

    uri, collection, template = str(out / "store.db"), "stdlib", Template()
    with Phases() as phases:
        phases.phase("loading the sample model", None, "")
        model = load_model(SAMPLE)
        settings = Settings(
            SAMPLE, ("stdlib",), collection, uri, template=template.text, limit=QUICKSTART_DOCUMENTS, also="rest"
        )
        manifest = ingest(settings, out / "ingestion", phases, model=model)
        assert manifest is not None  # there are no other shares
        sources = open_sources(Where(uri, collection), QUICKSTART_SYSTEMS, model, phases)
        suite, options = load_suite("stdlib", QUICKSTART_PROMPTS), Options(max_new_tokens=QUICKSTART_TOKENS)
        what = Evaluation(suite, QUICKSTART_SYSTEMS, template, options, out, replace=True)
        summary = run_evaluation(what, model, sources, phases)
    print_summary(uri, collection, manifest)
    console = wide_console()
    console.print(
        "\n[bold]One of the prompts, with hybrid drafts[/bold] (green: drafted and accepted)\n",
        highlight=False,
    )
    speaker = Speaker(model, prepare_drafter("hybrid", sources, model), Greedy(), QUICKSTART_TOKENS)
    speaker.answer(Conversation(model.tokenizer, template).begin(suite.prompts[0].text))
    console.print(f"\n[bold]{QUICKSTART_PROMPTS} held-out functions, {QUICKSTART_TOKENS} tokens each, greedy[/bold]\n")
    print_table(summary["runs"])
    console.print(f"\nreport: {out}/report.html", highlight=False)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the database, the results and the reports.")] = Path(
        "runs/demo"
    ),
    model: Annotated[str, typer.Option(help="The model to show: a name, a folder, or a hub name.")] = "smollm2",
) -> None:
    """Show what drafts do for a real chat model: problems of GSM8K, a store of its own answers and one of people's.

    Interrupted, the same command goes on where it was; run again, it shows what it found.
    """
    from dresd_milvus.cli.speaker import Speaker
    from dresd_milvus.console import Phases, wide_console
    from dresd_milvus.corpus.conversation import Conversation, choose_template
    from dresd_milvus.decoding.sampling import Greedy
    from dresd_milvus.models.loading import load_model
    from dresd_milvus.systems.prepared import prepare_drafter
    from dresd_milvus.systems.registry import Where, open_sources
    from evaluation.prompts import SUITES, load_suite
    from evaluation.reporting.report import print_table
    from evaluation.running.harness import Options
    from evaluation.running.runner import Evaluation, run_evaluation
    from ingestion.planning.plan import Settings
    from ingestion.runner import ingest

    uri, problems = str(out / "store.db"), str(SUITES["gsm8k"].with_name("gsm8k-stored.jsonl"))
    suite, options = load_suite("gsm8k-extract", DEMO_PROMPTS), Options(max_new_tokens=DEMO_TOKENS)
    summaries, opened = {}, {}
    with Phases() as phases:
        for store, (answers, _) in DEMO_STORES.items():
            settings = Settings(
                model, (problems,), store, uri, limit=DEMO_STORED, answers=answers,
                answer_tokens=DEMO_ANSWER_TOKENS, shard_size=DEMO_SHARD, also="rest",
            )  # fmt: skip
            ingest(settings, out / "ingestion" / store, phases)
        phases.phase(f"loading the model {model}", None, "")
        loaded = load_model(model, "float32")  # in it output is the same for certain, and steps here are as fast
        template = choose_template(loaded.tokenizer)
        for store in DEMO_STORES:
            opened[store] = open_sources(Where(uri, store), DEMO_SYSTEMS, loaded, phases)
            what = Evaluation(suite, DEMO_SYSTEMS, template, options, out / store)
            summaries[store] = run_evaluation(what, loaded, opened[store], phases)
    console = wide_console()
    asked = load_suite("gsm8k-extract").prompts[DEMO_PROMPTS].text
    console.print(f"[bold]A question, answered with drafts[/bold] (green: drafted and accepted)\n\n{asked}\n")
    speaker = Speaker(loaded, prepare_drafter("hybrid", opened["own"], loaded), Greedy(), 2 * DEMO_TOKENS)
    speaker.answer(Conversation(loaded.tokenizer, template).begin(asked))
    for store, (_, told) in DEMO_STORES.items():
        console.print(
            f"\n[bold]{DEMO_PROMPTS} held-out problems, {DEMO_TOKENS} tokens each, greedy; the store: {told}, "
            f"{summaries[store]['store']['rows']:,} rows[/bold]\n"
        )
        print_table(summaries[store]["runs"])
    console.print(f"\nreports: {', '.join(f'{out}/{store}/report.html' for store in DEMO_STORES)}", highlight=False)

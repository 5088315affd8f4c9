"""`dresd quickstart` and `dresd demo`: ingest, measure and show, in one command each.

With main.py and api.py the only part of the core that imports the packages around it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dresd_milvus.cli.speaker import Speaker
from dresd_milvus.console import Phases, wide_console
from dresd_milvus.corpus import Template
from dresd_milvus.corpus.conversation import Conversation, choose_template
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.models.checkpoint import SAMPLE
from dresd_milvus.models.loading import load_model
from dresd_milvus.systems.prepared import prepare_drafter
from dresd_milvus.systems.sources import Where, open_sources
from evaluation.prompts import SUITES, load_suite
from evaluation.reporting.report import print_table
from evaluation.running.harness import Options
from evaluation.running.runner import Evaluation, run_evaluation
from ingestion.cli import print_summary
from ingestion.options import Answers, Settings
from ingestion.runner import ingest

QUICKSTART_DOCUMENTS = 800
QUICKSTART_PROMPTS = 16
QUICKSTART_TOKENS = 128
QUICKSTART_SYSTEMS = ("vanilla", "prompt_lookup", "rest", "dense", "hybrid")

DEMO_STORED = 80
"""Problems in each store, with their published solutions or with the model's own answers."""

DEMO_PROMPTS, DEMO_TOKENS, DEMO_ANSWER_TOKENS = 6, 64, 96
DEMO_SYSTEMS = ("vanilla", "prompt_lookup", "suffix", "dense", "hybrid-no-dense", "hybrid")
DEMO_STORES: dict[str, tuple[Answers, str]] = {
    "own": ("sampled", "the model's own answers"),
    "people": ("own", "people's answers"),
}
"""Of each collection: whose answers it holds, for ingestion and for people."""

DEMO_SHARD = 6_000
"""Characters of a shard, some twenty problems: answers are lost by the shard when the demo is interrupted."""


def quickstart(out: Path) -> None:
    """See main.quickstart. out: folder for the database, the results and the report."""
    uri, collection, template = str(out / "store.db"), "stdlib", Template()
    with Phases() as phases:
        phases.phase("loading the sample model", None, "")
        model = load_model(SAMPLE)
        settings = Settings(
            sources=["stdlib"], uri=uri, collection=collection, model=SAMPLE, template=template.text,
            limit=QUICKSTART_DOCUMENTS, also="rest",
        )  # fmt: skip
        manifest = ingest(settings, out / "ingestion", phases, model=model)
        assert manifest is not None  # there are no other shares
        sources = open_sources(Where(uri, collection), QUICKSTART_SYSTEMS, model, phases)
        suite, options = load_suite("stdlib", QUICKSTART_PROMPTS), Options(max_new_tokens=QUICKSTART_TOKENS)
        what = Evaluation(suite, QUICKSTART_SYSTEMS, template, options, out, replace=True)
        summary = run_evaluation(what, model, sources, phases)
    print_summary(uri, collection, manifest)
    speaker = Speaker(model, prepare_drafter("hybrid", sources, model), Greedy(), QUICKSTART_TOKENS)
    wide_console().print("\n[bold]One of the prompts, with hybrid drafts[/bold] (green: drafted and accepted)\n")
    speaker.answer(Conversation(model.tokenizer, template).begin(suite.prompts[0].text))
    _show_table(f"{QUICKSTART_PROMPTS} held-out functions, {QUICKSTART_TOKENS} tokens each, greedy", summary)
    wide_console().print(f"\nreport: {out}/report.html")


def demo(out: Path, model: str) -> None:
    """See main.demo. out: folder for the database, the results and the reports. model: see load_model."""
    uri, summaries, opened = str(out / "store.db"), {}, {}
    suite, options = load_suite("gsm8k-extract", DEMO_PROMPTS), Options(max_new_tokens=DEMO_TOKENS)
    with Phases() as phases:
        for store in DEMO_STORES:
            ingest(_demo_settings(model, uri, store), out / "ingestion" / store, phases)
        phases.phase(f"loading the model {model}", None, "")
        loaded = load_model(model, "float32")  # in it output is the same for certain, and steps here are as fast
        template = choose_template(loaded.tokenizer)
        for store in DEMO_STORES:
            opened[store] = open_sources(Where(uri, store), DEMO_SYSTEMS, loaded, phases)
            what = Evaluation(suite, DEMO_SYSTEMS, template, options, out / store)
            summaries[store] = run_evaluation(what, loaded, opened[store], phases)
    asked = load_suite("gsm8k-extract").prompts[DEMO_PROMPTS].text
    wide_console().print(f"[bold]A question, answered with drafts[/bold] (green: drafted and accepted)\n\n{asked}\n")
    speaker = Speaker(loaded, prepare_drafter("hybrid", opened["own"], loaded), Greedy(), 2 * DEMO_TOKENS)
    speaker.answer(Conversation(loaded.tokenizer, template).begin(asked))
    for store, (_, told) in DEMO_STORES.items():
        rows = summaries[store]["store"]["rows"]
        heading = (
            f"{DEMO_PROMPTS} held-out problems, {DEMO_TOKENS} tokens each, greedy; the store: {told}, {rows:,} rows"
        )
        _show_table(heading, summaries[store])
    wide_console().print(f"\nreports: {', '.join(f'{out}/{store}/report.html' for store in DEMO_STORES)}")


def _demo_settings(model: str, uri: str, store: str) -> Settings:
    """How a store of the demo is built."""
    problems = str(SUITES["gsm8k"].with_name("gsm8k-stored.jsonl"))
    return Settings(
        sources=[problems], uri=uri, collection=store, model=model, limit=DEMO_STORED, answers=DEMO_STORES[store][0],
        answer_tokens=DEMO_ANSWER_TOKENS, shard_size=DEMO_SHARD, also="rest",
    )  # fmt: skip


def _show_table(heading: str, summary: dict[str, Any]) -> None:
    wide_console().print(f"\n[bold]{heading}[/bold]\n")
    print_table(summary["runs"])

"""`dresd`: the composition root. The packages around the core are imported here and nowhere else in the core."""

from __future__ import annotations

import errno
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from dresd_milvus.errors import DresdError
from dresd_milvus.options import CollectionOption, TokenOption, UriOption
from dresd_milvus.talk_cli import app as talk

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

QUICKSTART_DOCUMENTS = 800
QUICKSTART_PROMPTS = 16
QUICKSTART_TOKENS = 128
QUICKSTART_SYSTEMS = ("vanilla", "prompt_lookup", "rest", "dense", "hybrid")


@app.callback()
def root() -> None:
    """Dense retrieval for speculative decoding, on Milvus."""


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the database, the results and the report.")] = Path(
        "runs/quickstart"
    ),
) -> None:
    """Ingest Python's standard library with the sample model, measure on functions it held back, show one."""
    from dresd_milvus.choose import Greedy
    from dresd_milvus.console import Phases, wide_console
    from dresd_milvus.corpus import Template
    from dresd_milvus.corpus.conversation import Conversation
    from dresd_milvus.costs import step_costs
    from dresd_milvus.loading import SAMPLE, load_model
    from dresd_milvus.systems import Where, open_sources
    from dresd_milvus.talk import Speaker
    from evaluation.harness import Options
    from evaluation.prompts import load_suite
    from evaluation.report import print_table
    from evaluation.runner import Evaluation, run_evaluation
    from ingestion.cli import print_summary
    from ingestion.plan import Settings
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
        sources = open_sources(Where(uri, collection), QUICKSTART_SYSTEMS, model, phases.replica)
        suite, options = load_suite("stdlib", QUICKSTART_PROMPTS), Options(max_new_tokens=QUICKSTART_TOKENS)
        what = Evaluation(suite, QUICKSTART_SYSTEMS, template, options, out, replace=True)
        summary = run_evaluation(what, model, sources, phases)
    print_summary(uri, collection, manifest)
    console = wide_console()
    console.print(
        "\n[bold]One of the prompts, with hybrid drafts[/bold] (green: drafted and accepted)\n",
        highlight=False,
    )
    speaker = Speaker(
        model, sources, "hybrid", Greedy(), options.budget("hybrid"), QUICKSTART_TOKENS, step_costs(model)
    )
    speaker.answer(Conversation(model.tokenizer, template).begin(suite.prompts[0].text))
    console.print(f"\n[bold]{QUICKSTART_PROMPTS} held-out functions, {QUICKSTART_TOKENS} tokens each, greedy[/bold]\n")
    print_table(summary["runs"])
    console.print(f"\nreport: {out}/report.html", highlight=False)


app.registered_commands += talk.registered_commands


@app.command()
def inspect(
    uri: UriOption,
    collection: CollectionOption,
    recall: Annotated[bool, typer.Option("--recall", help="Measure what each search plan finds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    token: TokenOption = "",
) -> None:
    """Show what is in a collection: rows, checksum, index, manifest, a few readable rows."""
    from dresd_milvus.console import Phases
    from dresd_milvus.inspection import inspect_store, print_inspection
    from dresd_milvus.milvus import MilvusStore
    from dresd_milvus.recall import measure_recall

    with MilvusStore.open(uri, collection, token) as store, Phases() as phases:
        phases.phase("reading the rows", store.manifest.rows or None, "rows")
        content = inspect_store(store, progress=phases.advance)
        if recall:
            phases.phase("measuring recall", 2 * content["rows"], "rows")
            content["recall"] = [plan._asdict() for plan in measure_recall(store.require_sealed(), phases.advance)]
    if as_json:
        print(json.dumps(content, ensure_ascii=False, indent=2))
    else:
        print_inspection(uri, collection, content)


def run_app(application: typer.Typer, name: str | None = None) -> None:
    """Run a command line; expected failures are one line on stderr and exit code 1."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # oneDNN keeps what it compiles for every shape of a batch, 1,024 of them: some 300 MB by and by, and no faster.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    try:
        application(prog_name=name)
    except DresdError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        _fail(
            f"cannot write {error.filename or 'a file'}: {error.strerror}; free or choose another place and run again"
        )


def _fail(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)


@cache
def composed() -> typer.Typer:
    """The whole command line: the core's commands and those of the packages around it."""
    from dresd_milvus.store_cli import app as store_app
    from evaluation.cli import app as evaluation_app
    from infra.cli import app as stack_app
    from ingestion.cli import app as ingestion_app

    app.add_typer(ingestion_app, name="ingest")
    app.add_typer(evaluation_app, name="eval")
    app.add_typer(store_app, name="store")
    app.add_typer(stack_app, name="stack")
    return app


def main() -> None:
    """The console script."""
    run_app(composed(), "dresd")

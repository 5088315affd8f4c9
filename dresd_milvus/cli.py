"""`dresd`: the composition root. In the core only this file, demo.py and api.py import the packages around it."""

from __future__ import annotations

import errno
import json
import os
import sys
from functools import cache
from typing import Annotated

import typer

from dresd_milvus.demo import app as demo
from dresd_milvus.errors import DresdError
from dresd_milvus.options import CollectionOption, TokenOption, UriOption
from dresd_milvus.talk_cli import app as talk

INTERRUPTED = 130
"""What typer exits with after Ctrl-C."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.registered_commands += [*demo.registered_commands, *talk.registered_commands]


@app.callback()
def root() -> None:
    """Dense retrieval for speculative decoding, on Milvus."""


@app.command()
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
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            print("interrupted; run the same command again to go on", file=sys.stderr)
        raise
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

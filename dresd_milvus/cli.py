"""`dresd`: the composition root. The packages around the core are imported here and nowhere else in the core."""

from __future__ import annotations

import errno
import json
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from dresd_milvus.demo import app as demo
from dresd_milvus.errors import DresdError
from dresd_milvus.options import (
    DEPTH,
    SEARCH_SECONDS,
    CollectionOption,
    DepthOption,
    DeviceOption,
    DtypeOption,
    GraphsOption,
    NodesOption,
    SearchOption,
    SuffixesOption,
    TimeoutOption,
    TokenOption,
    UriOption,
)

if TYPE_CHECKING:
    from dresd_milvus.choose import Chooser
    from dresd_milvus.corpus import Template
    from dresd_milvus.loading import LoadedModel
    from dresd_milvus.systems import Sources

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.registered_commands += demo.registered_commands


@app.callback()
def root() -> None:
    """Dense retrieval for speculative decoding, on Milvus."""


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the model answers; it is put into the template.")],
    model: Annotated[str, typer.Option(help="'sample', a model folder, or a hub name.")] = "sample",
    uri: Annotated[str | None, typer.Option(help="The database, for dense drafts.")] = None,
    collection: Annotated[str | None, typer.Option(help="The collection, for dense drafts.")] = None,
    suffixes: SuffixesOption = None,
    draft_model: Annotated[str | None, typer.Option(help="For small_lm; default: the sample's.")] = None,
    system: Annotated[
        str | None, typer.Option(help="Default: hybrid, without its dense part where there is no store.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 128,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus of this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    nodes: NodesOption = "auto",
    depth: DepthOption = DEPTH,
    template: Annotated[str | None, typer.Option(help="Default: the store's.")] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    graphs: GraphsOption = False,
    search: SearchOption = "auto",
    timeout: TimeoutOption = SEARCH_SECONDS,
    token: TokenOption = "",
) -> None:
    """Stream one answer; drafted and accepted tokens are green in a terminal."""
    from dresd_milvus.choose import make_chooser
    from dresd_milvus.loading import load_model
    from dresd_milvus.retrieval import choose_template
    from dresd_milvus.systems import Where, open_sources, parse_nodes, parse_systems

    choose = make_chooser(temperature, top_p, seed)
    system = system or ("hybrid" if uri else "hybrid-dense")
    names, most = parse_systems(system), parse_nodes(nodes)
    where = Where(uri, collection, suffixes, draft_model, search, token, timeout=timeout)
    where.check(names)
    loaded = load_model(model, dtype, device, graphs=graphs)
    sources = open_sources(where, names, loaded)
    prompt_template = choose_template(template, sources.retrieval.manifest if sources.retrieval else None)
    try:
        stream(loaded, sources, system, prompt_template, prompt, max_new_tokens, choose, most, depth)
    finally:
        sources.close()


def stream(
    model: LoadedModel,
    sources: Sources,
    system: str,
    template: Template | None,
    prompt: str,
    max_new_tokens: int,
    choose: Chooser,
    nodes: int | None,
    depth: int,
) -> None:
    """Print an answer as it is generated, and a line of figures after it."""
    from dresd_milvus.console import wide_console
    from dresd_milvus.corpus import encode_prompt
    from dresd_milvus.costs import step_costs
    from dresd_milvus.decode import generate as decode
    from dresd_milvus.decode import rehearse
    from dresd_milvus.stream import TokenStream
    from dresd_milvus.systems import budget_of, make_drafter, must_know_costs

    console = wide_console()
    ids = encode_prompt(model.tokenizer, template, prompt)
    costs = step_costs(model) if must_know_costs([system], nodes) else None
    drafter = make_drafter(system, sources, costs=costs)
    rehearse(drafter, model.target.hidden_size, model.target.dtype)
    done = decode(
        model.target,
        drafter,
        choose,
        ids,
        max_new_tokens,
        budget_of(system, nodes, depth),
        watch=TokenStream(model.tokenizer, ids, console),
    )
    console.print()
    console.print(
        f"{system}: {len(done.tokens)} tokens, {done.tokens_per_second:.0f} tokens/s, MAT {done.mat:.2f}, "
        f"hit rate {done.hit_rate:.0%}, ended by {done.reason}",
        style="dim",
    )
    if sources.losses():
        console.print(f"warning: {sources.losses()}", style="yellow")


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

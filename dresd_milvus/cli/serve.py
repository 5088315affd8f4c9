"""`dresd serve`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from dresd_milvus.console import Phases
from dresd_milvus.defaults import SEARCH_SECONDS, Search
from dresd_milvus.options import CollectionOption, UriOption

app = typer.Typer()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    uri: UriOption,
    collection: CollectionOption,
    model: Annotated[str, typer.Option(help="Model to serve: a name, a folder, or a hub name.")],
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    draft_tokens: Annotated[int, typer.Option(min=1, max=64, help="Longest draft of a request (tokens).")] = 6,
    default_corpus: Annotated[
        str | None, typer.Option(help="Corpus (name of a source) of requests that name none; default: all rows.")
    ] = None,
    require_corpus: Annotated[bool, typer.Option(help="Refuse requests that name no corpus.")] = False,
    search: Annotated[Search, typer.Option(help="Place of the search: a replica in memory, or the server.")] = "auto",
    timeout: Annotated[
        float, typer.Option("--search-timeout", min=0.001, help="Longest time of a search on a server (seconds).")
    ] = SEARCH_SECONDS,
) -> None:
    """Serve a model by vLLM's OpenAI API, with drafts from a collection.

    All after -- is passed on to vLLM: dresd serve ... -- --max-num-seqs 16 --tensor-parallel-size 2
    """
    from dresd_milvus.serving import launch
    from dresd_milvus.serving.settings import ServeSettings

    launch.require_key(host, context.args)
    launch.require_engine()
    with Phases() as phases:
        phases.phase(f"checking the model {model} and the store", None, "")
        folder, fingerprint, tokenizer = launch.identify(model)
        settings = ServeSettings(model, fingerprint, tokenizer, uri, collection, search, timeout)
        sources = settings.open_sources(phases)
        sources.close()
        corpora = sources.manifest.origins if sources.manifest else ()
        launch.check_corpora(corpora, default_corpus, require_corpus)
    settings = replace(settings, corpora=corpora, default_corpus=default_corpus, require_corpus=require_corpus)
    command = launch.server_command(folder, model, host, port, draft_tokens, context.args, require_corpus)
    launch.start(settings, command, port)

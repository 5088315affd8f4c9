"""`dresd generate` and `dresd chat`."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from dresd_milvus.decoding.loop import DEPTH, MAX_NEW_TOKENS
from dresd_milvus.errors import InputError
from dresd_milvus.options import (
    DepthOption,
    DeviceOption,
    DtypeOption,
    GraphsOption,
    MinPOption,
    ModelOption,
    NodesOption,
    PenaltyOption,
    SearchOption,
    SeedOption,
    SuffixesOption,
    TemperatureOption,
    TimeoutOption,
    TokenOption,
    TopKOption,
    TopPOption,
    with_options,
)
from dresd_milvus.retrieval.circuit_breaker import SEARCH_SECONDS

app = typer.Typer()


def speaker(
    model: ModelOption = "sample",
    uri: Annotated[str | None, typer.Option(help="The database, for dense drafts.")] = None,
    collection: Annotated[str | None, typer.Option(help="The collection, for dense drafts.")] = None,
    suffixes: SuffixesOption = None,
    draft_model: Annotated[str | None, typer.Option(help="For small_lm; default: the sample's.")] = None,
    system: Annotated[
        str | None, typer.Option(help="What drafts. Default: hybrid, without its dense part where there is no store.")
    ] = None,
    system_prompt: Annotated[str | None, typer.Option(help="The chat template's system message.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of one answer.")] = MAX_NEW_TOKENS,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    top_k: TopKOption = 0,
    min_p: MinPOption = 0.0,
    repetition_penalty: PenaltyOption = 1.0,
    seed: SeedOption = 0,
    stop: Annotated[
        list[str] | None, typer.Option(help="Text before which the answer ends; may be given several times.")
    ] = None,
    nodes: NodesOption = "auto",
    depth: DepthOption = DEPTH,
    template: Annotated[
        str | None, typer.Option(help="What prompts go into. Default: the store's, or the model's chat template.")
    ] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    graphs: GraphsOption = False,
    search: SearchOption = "auto",
    timeout: TimeoutOption = SEARCH_SECONDS,
    token: TokenOption = "",
) -> Any:
    """(Speaker, Conversation) by these options; what the speaker's sources hold open is to be closed."""
    from dresd_milvus.cli.speaker import Speaker
    from dresd_milvus.console import Phases
    from dresd_milvus.corpus.conversation import Conversation, choose_template
    from dresd_milvus.decoding.sampling import make_sampler
    from dresd_milvus.decoding.token_stream import parse_stop
    from dresd_milvus.models.loading import load_model
    from dresd_milvus.systems.prepared import prepare_drafter
    from dresd_milvus.systems.registry import Where, open_sources, parse_nodes, parse_systems

    sampler = make_sampler(temperature, top_p, seed, top_k, min_p, repetition_penalty)
    strings = parse_stop(stop or ())
    system = system or ("hybrid" if uri else "hybrid-dense")
    names, most = parse_systems(system), parse_nodes(nodes)
    where = Where(uri, collection, suffixes, draft_model, search, token, timeout=timeout)
    where.check(names)
    with Phases() as phases:
        phases.phase(f"loading the model {model}", None, "")
        loaded = load_model(model, dtype, device, graphs=graphs)
        sources = open_sources(where, names, loaded, phases)
        try:
            put = choose_template(loaded.tokenizer, template, sources.manifest)
            conversation = Conversation(loaded.tokenizer, put, system_prompt)
            drafter = prepare_drafter(system, sources, loaded, most, depth)
            return Speaker(loaded, drafter, sampler, max_new_tokens, strings), conversation
        except BaseException:
            sources.close()
            raise


@app.command()
@with_options(speaker)
def generate(
    speaking: Any, prompt: Annotated[str, typer.Argument(help="What the model answers; it is put into the template.")]
) -> None:
    """Stream one answer; drafted and accepted tokens are green in a terminal."""
    speaker, conversation = speaking
    try:
        speaker.answer(conversation.begin(prompt))
    finally:
        speaker.sources.close()


@app.command()
@with_options(speaker)
def chat(speaking: Any) -> None:
    """Talk with the model, turn by turn; what it has read and what its drafts have learnt is kept between turns."""
    from dresd_milvus.cli.speaker import chat as talk

    with suppress(ImportError):
        import readline  # noqa: F401  (input() takes lines back and edits them)
    if sys.stdin is None:
        raise InputError("dresd chat reads questions from the standard input, which is closed")
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")
    speaker, conversation = speaking
    try:
        talk(speaker, conversation, lambda: input("> "))
    finally:
        speaker.sources.close()

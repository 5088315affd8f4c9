"""`dresd generate` and `dresd chat`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from dresd_milvus.console import Phases
from dresd_milvus.corpus.conversation import Conversation, choose_template
from dresd_milvus.defaults import MAX_NEW_TOKENS
from dresd_milvus.errors import InputError
from dresd_milvus.options import (
    DecodingOptions,
    DraftModelOption,
    GraphsOption,
    ModelOptions,
    TemplateOption,
    with_options,
)
from dresd_milvus.systems.registry import parse_systems
from dresd_milvus.systems.sources import Where, open_sources

if TYPE_CHECKING:
    from dresd_milvus.cli.speaker import Speaker

app = typer.Typer()


@dataclass(frozen=True)
class SpeakerOptions:
    """What answers, and how: the options of both commands."""

    models: ModelOptions
    where: Where
    decoding: DecodingOptions
    draft_model: DraftModelOption = None
    system: Annotated[
        str | None, typer.Option(help="System that drafts; default: hybrid, or without a store hybrid-no-dense.")
    ] = None
    system_prompt: Annotated[str | None, typer.Option(help="System message of the chat template.")] = None
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer (tokens).")] = MAX_NEW_TOKENS
    stop: Annotated[
        list[str] | None, typer.Option(help="Text before which the answer ends; may be given several times.")
    ] = None
    template: TemplateOption = None
    graphs: GraphsOption = False

    @contextmanager
    def open(self) -> Iterator[tuple[Speaker, Conversation]]:
        """The speaker, and what its prompts go into; its sources are closed afterwards."""
        from dresd_milvus.cli.speaker import Speaker
        from dresd_milvus.decoding.token_stream import parse_stop
        from dresd_milvus.systems.prepared import prepare_drafter

        sampler, strings = self.decoding.sampler(), parse_stop(self.stop or ())
        system = self.system or ("hybrid" if self.where.uri else "hybrid-no-dense")
        names = parse_systems(system)
        self.where.check(names)
        with ExitStack() as opened:
            with Phases() as phases:
                model = self.models.load(phases, graphs=self.graphs)
                sources = opened.enter_context(
                    closing(open_sources(self.where, names, model, phases, self.draft_model))
                )
                template = choose_template(model.tokenizer, self.template, sources.manifest)
                conversation = Conversation(model.tokenizer, template, self.system_prompt)
                drafter = prepare_drafter(system, sources, model, self.decoding.nodes, self.decoding.depth)
            yield Speaker(model, drafter, sampler, self.max_new_tokens, strings), conversation


@app.command()
@with_options
def generate(
    options: SpeakerOptions,
    prompt: Annotated[str, typer.Argument(help="Prompt that the model answers; it is put into the template.")],
    sources: Annotated[
        bool, typer.Option("--sources", help="List the spans that were drafted and the documents they are from.")
    ] = False,
) -> None:
    """Stream one answer; drafted and accepted tokens are green in a terminal."""
    with options.open() as (speaker, conversation):
        ids = conversation.begin(prompt)
        done = speaker.answer(ids)
        if sources:
            speaker.tell_sources([*ids, *done.tokens])


@app.command()
@with_options
def chat(options: SpeakerOptions) -> None:
    """Talk with the model, turn by turn; what it has read and what its drafts have learnt is kept between turns."""
    from dresd_milvus.cli.speaker import chat as talk

    with suppress(ImportError):
        import readline  # noqa: F401  (input() takes lines back and edits them)
    if sys.stdin is None:
        raise InputError("dresd chat reads questions from the standard input, which is closed")
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")
    with options.open() as (speaker, conversation):
        talk(speaker, conversation, lambda: input("> "))

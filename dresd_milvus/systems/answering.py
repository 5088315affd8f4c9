"""Answering a prompt from a program: the whole text, or piece by piece as it is generated."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from dresd_milvus.corpus.conversation import Conversation, choose_template
from dresd_milvus.decoding import loop
from dresd_milvus.decoding.loop import FixedBudget, Generation
from dresd_milvus.decoding.protocols import Step
from dresd_milvus.decoding.sampling import Sampler, make_sampler
from dresd_milvus.decoding.token_stream import AnswerText, parse_stop
from dresd_milvus.defaults import MAX_NEW_TOKENS
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.errors import InputError, MismatchError, keywords
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.systems.prepared import PreparedDrafter
from dresd_milvus.systems.spans import Span, spans_of
from dresd_milvus.target.hf_target import HFTarget

P = ParamSpec("P")
R = TypeVar("R")

_latest: WeakKeyDictionary[HFTarget, Generation] = WeakKeyDictionary()
"""The text that every model works on. Its key-value cache holds one text, so that an older one cannot go on."""


@dataclass(frozen=True)
class Result:
    """A text and how it was made.

    text: without end tokens and stop strings. tokens: ids of the text, up to the end token or the one that completed a
    stop string, included. reason: why it ended: 'eos', 'stop' (a stop string), 'length' (max_new_tokens) or 'context'.
    mat: mean accepted tokens per forward pass, the model's own token included; 1.0 for plain decoding. hit_rate: share
    of steps that had a draft, 0 to 1. tokens_per_second: of decoding, without reading the prompt. spans: accepted draft
    tokens and the documents that they are from, where the drafter notes them (hybrid does).
    """

    text: str
    tokens: list[int]
    reason: str
    mat: float
    hit_rate: float
    tokens_per_second: float
    spans: list[Span] = field(default_factory=list)


@dataclass(frozen=True)
class _Request:
    """A prompt (token ids) and how it is to be answered."""

    model: LoadedModel
    prompt: list[int]
    drafter: PreparedDrafter | None
    sampler: Sampler
    max_new_tokens: int
    stop: tuple[str, ...]

    def steps(self, done: Generation) -> Iterator[Step]:
        """Every step of the text, as long as the model works on it; raises InputError when it has begun another.

        done: a new Generation; it is filled in when the text has ended.
        """
        target, used = self.model.target, self.drafter
        drafter, budget = (used.drafter, used.budget) if used else (Vanilla(), FixedBudget(0, 0))
        stops_at = AnswerText(self.model.tokenizer, self.stop).stops_at if self.stop else None
        _latest[target] = done
        try:
            for step in loop.decode(
                target, drafter, self.sampler, self.prompt, self.max_new_tokens, budget, done, stops_at=stops_at
            ):
                yield step
                if _latest[target] is not done:
                    raise InputError("the model has begun another text; read a stream to its end before the next text")
        finally:
            if used:
                used.keep_costs()

    def pieces(self, steps: Iterable[list[int]]) -> Generator[str, None, None]:
        """The tokens of every step as text, without end tokens and stop strings, in pieces of whole characters."""
        text, ends = AnswerText(self.model.tokenizer, self.stop), self.model.target.eos_ids
        for tokens in steps:
            if piece := "".join(text.piece(token) for token in tokens if token not in ends):
                yield piece
        if rest := text.rest():
            yield rest


def _request(
    model: LoadedModel,
    prompt: str,
    *,
    drafter: PreparedDrafter | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    stop: str | Sequence[str] = (),
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    system_prompt: str | None = None,
    template: str | None = None,
) -> _Request:
    """Check the arguments of `generate` and `stream`, which document them and their errors."""
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    sampler = make_sampler(temperature, top_p, seed, top_k, min_p, repetition_penalty)
    strings, manifest = parse_stop(stop), None
    if drafter:
        if drafter.fingerprint != model.fingerprint:
            raise MismatchError(f"the drafter was made for another model than {model.name}; make one for this model")
        drafter.sources.require_open()
        manifest = drafter.sources.manifest
    chosen = choose_template(model.tokenizer, template, manifest)
    ids = Conversation(model.tokenizer, chosen, system_prompt).begin(prompt)
    loop.check_prompt(model.target, ids)
    return _Request(model, ids, drafter, sampler, max_new_tokens, strings)


def _with_arguments_of(ask: Callable[P, _Request]) -> Callable[[Callable[[_Request], R]], Callable[P, R]]:
    """Give a function the arguments of `ask`, and itself the request that `ask` makes of them.

    So the arguments of `generate` and `stream` are written once, and type checkers and help() show them for both.
    """

    def decorate(answer: Callable[[_Request], R]) -> Callable[P, R]:
        @wraps(answer)
        def asked(*args: P.args, **kwargs: P.kwargs) -> R:
            with keywords():
                return answer(ask(*args, **kwargs))

        returned = answer.__annotations__["return"]
        asked.__annotations__ = {**ask.__annotations__, "return": returned}
        asked.__signature__ = signature(ask).replace(return_annotation=returned)  # type: ignore[attr-defined]
        return asked

    return decorate


@_with_arguments_of(_request)
def generate(request: _Request) -> Result:
    """Answer a prompt; with every drafter the text is the one that the model alone would write.

        result = dresd.generate(model, "Why is the sky blue?", drafter=drafter, temperature=0.7, top_p=0.95, seed=1)

    drafter: None is plain decoding. max_new_tokens: tokens of the text at most. stop: one string or several; the text
    ends before the first of them. temperature: 0 is greedy. top_p: sample from the smallest set of most likely tokens
    that have this probability together. top_k: sample from this number of most likely tokens; 0 is all. min_p: sample
    from tokens at least this share as likely as the likeliest. repetition_penalty: makes tokens of prompt and answer
    less likely; 1 is none. seed: the same seed gives the same text with every drafter.
    template: what the prompt goes into: text with {prompt}, or 'chat'; default: what the drafter's store was built
    with, else the model's chat template (docs/chat.md). system_prompt: the chat template's system message.
    Raises InputError for an argument or a prompt that cannot be used, MismatchError for a drafter of another model,
    StoreError for one of a closed store.
    """
    done = Generation()
    for _ in request.steps(done):
        pass
    text = "".join(request.pieces([done.tokens]))  # made afterwards: it is no part of the decoding time
    spans = spans_of(request.drafter.drafter, request.drafter.sources) if request.drafter else []
    return Result(text, done.tokens, done.reason, done.mat, done.hit_rate, done.tokens_per_second, spans)


@_with_arguments_of(_request)
def stream(request: _Request) -> Generator[str, None, None]:
    """Answer a prompt piece by piece, each of whole characters; together they are the text of `generate`.

        for piece in dresd.stream(model, "Why is the sky blue?", drafter=drafter):
            print(piece, end="", flush=True)

    Arguments and errors are those of `generate`; errors are raised by this call. Text that may be the beginning of a
    stop string is held back. A stream may be left early, or closed with its close(). A model has one text at a time: a
    stream whose model has begun another text since raises InputError when it is read on.
    """
    return request.pieces(step.new.tolist() for step in request.steps(Generation()))

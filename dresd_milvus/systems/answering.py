"""Answering a prompt from a program: the whole text, or piece by piece as it is generated."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

from dresd_milvus.corpus.conversation import Conversation, choose_template
from dresd_milvus.decoding import loop
from dresd_milvus.decoding.loop import MAX_NEW_TOKENS, FixedBudget, Generation
from dresd_milvus.decoding.protocols import Drafter, Step, Target
from dresd_milvus.decoding.sampling import Sampler, make_sampler
from dresd_milvus.decoding.token_stream import Detokenizer
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.errors import InputError, MismatchError
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.systems.prepared import PreparedDrafter
from dresd_milvus.target.hf_target import HFTarget

_latest: WeakKeyDictionary[HFTarget, Generation] = WeakKeyDictionary()
"""The text that every model works on. Its key-value cache holds one text, so that an older one cannot go on."""


@dataclass(frozen=True)
class Result:
    """A text and how it was made.

    text: without end tokens. tokens: ids of the text, an end token included. reason: why it ended: 'eos', 'length'
    (max_new_tokens) or 'context'. mat: mean accepted tokens per forward pass, the model's own token included; 1.0 for
    plain decoding. hit_rate: share of steps that had a draft, 0 to 1. tokens_per_second: of decoding, without reading
    the prompt.
    """

    text: str
    tokens: list[int]
    reason: str
    mat: float
    hit_rate: float
    tokens_per_second: float


def generate(
    model: LoadedModel,
    prompt: str,
    *,
    drafter: PreparedDrafter | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    system_prompt: str | None = None,
    template: str | None = None,
) -> Result:
    """Answer a prompt; with every drafter the text is the one that the model alone would write.

        result = dresd.generate(model, "Why is the sky blue?", drafter=drafter, temperature=0.7, top_p=0.95, seed=1)

    drafter: None is plain decoding. max_new_tokens: at most. temperature: 0 is greedy. top_p: sample from the smallest
    set of tokens that have this probability together. seed: the same seed gives the same text with every drafter.
    template: what the prompt goes into: text with {prompt}, or 'chat'; default: what the drafter's store was built
    with, else the model's chat template (docs/chat.md). system_prompt: the chat template's system message.
    Raises InputError for an option or a prompt that cannot be used, MismatchError for a drafter of another model,
    StoreError for one of a closed store.
    """
    request = _request(model, prompt, drafter, max_new_tokens, temperature, top_p, seed, system_prompt, template)
    done = Generation()
    for _ in _steps(model, request, done, drafter):
        pass
    text = "".join(_pieces(model, [done.tokens]))  # made afterwards: it is no part of the decoding time
    return Result(text, done.tokens, done.reason, done.mat, done.hit_rate, done.tokens_per_second)


def stream(
    model: LoadedModel,
    prompt: str,
    *,
    drafter: PreparedDrafter | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    system_prompt: str | None = None,
    template: str | None = None,
) -> Generator[str, None, None]:
    """Answer a prompt piece by piece, each of whole characters; together they are the text of `generate`.

        for piece in dresd.stream(model, "Why is the sky blue?", drafter=drafter):
            print(piece, end="", flush=True)

    Arguments and errors are those of `generate`; errors are raised by this call. A stream may be left early, or closed
    with its close(). A model has one text at a time: a stream whose model has begun another text since raises
    InputError when it is read on.
    """
    request = _request(model, prompt, drafter, max_new_tokens, temperature, top_p, seed, system_prompt, template)
    return _pieces(model, (step.new.tolist() for step in _steps(model, request, Generation(), drafter)))


class _Request(NamedTuple):
    """The first arguments of loop.decode."""

    target: Target
    drafter: Drafter
    sampler: Sampler
    prompt: list[int]
    max_new_tokens: int
    budget: FixedBudget


def _request(
    model: LoadedModel,
    prompt: str,
    drafter: PreparedDrafter | None,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    system_prompt: str | None,
    template: str | None,
) -> _Request:
    """What `generate` and `stream` hand to decoding; raises their errors."""
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    sampler = make_sampler(temperature, top_p, seed)
    manifest = None
    if drafter:
        if drafter.fingerprint != model.fingerprint:
            raise MismatchError(f"the drafter was made for another model than {model.name}; make one for this model")
        drafter.sources.require_open()
        manifest = drafter.sources.manifest
    chosen = choose_template(model.tokenizer, template, manifest)
    ids = Conversation(model.tokenizer, chosen, system_prompt).begin(prompt)
    loop.check_prompt(model.target, ids)
    drafts, budget = (drafter.drafter, drafter.budget) if drafter else (Vanilla(), FixedBudget(0, 0))
    return _Request(model.target, drafts, sampler, ids, max_new_tokens, budget)


def _steps(model: LoadedModel, request: _Request, done: Generation, drafter: PreparedDrafter | None) -> Iterator[Step]:
    """Every step of a text, as long as the model works on it; raises InputError when it has begun another."""
    _latest[model.target] = done
    try:
        for step in loop.decode(*request, done):
            yield step
            if _latest[model.target] is not done:
                raise InputError("the model has begun another text; read a stream to its end before the next text")
    finally:
        if drafter:
            drafter.keep_costs()


def _pieces(model: LoadedModel, steps: Iterable[list[int]]) -> Generator[str, None, None]:
    """The tokens of every step as text, without end tokens, in pieces of whole characters."""
    made = Detokenizer(model.tokenizer)
    for tokens in steps:
        if piece := "".join(made.piece(token) for token in tokens if token not in model.target.eos_ids):
            yield piece
    if rest := made.rest():
        yield rest

"""The generate phase: answers by the target itself, for the paper's ID store (section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dresd_milvus.corpus import Document
from dresd_milvus.corpus.documents import encode_documents
from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import LoadedModel
from ingestion.planning.documents import Numbered

BATCH_TOKENS = 8192
"""Tokens of the texts that are written at once, prompts, answers and padding."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn. temperature 0 is greedy; max_new_tokens of one answer; seed: of the shard that is at work,
    so that a shard begun anew gives the same answers.
    """

    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int


def generate_shard(
    model: LoadedModel,
    numbered: Numbered,
    sampling: Sampling,
    advance: Callable[[int], None] = lambda tokens: None,
) -> list[Document]:
    """The same documents with the target's answers; where a prompt leaves no room for one, an empty answer.

    Conversations are answered turn by turn, each on top of the answers before it. advance is told of tokens written.
    Raises InputError where answers of that length leave no room for any prompt.
    """
    if sampling.max_new_tokens >= model.target.context:
        raise InputError(
            f"answers of {sampling.max_new_tokens} tokens leave no room for a prompt in the model's context of "
            f"{model.target.context}; give a smaller --answer-tokens"
        )
    turns = [list(document.turns) for document in numbered.documents]
    for at in range(1, max(map(len, turns), default=0), 2):
        asked = [index for index, turn in enumerate(turns) if len(turn) > at]
        before = [Document((*turns[index][:at], ""), "") for index in asked]
        for place, answer, tokens in _answers(model, before, sampling, at):
            turns[asked[place]][at] = answer
            advance(tokens)
    return [Document(tuple(t), d.origin) for t, d in zip(turns, numbered.documents, strict=True)]


def _answers(
    model: LoadedModel, asked: Sequence[Document], sampling: Sampling, turn: int
) -> Iterator[tuple[int, str, int]]:
    """(place, answer, its tokens) for every document that ends in a question."""
    end = model.tokenizer.eos_token_id
    prompts = [e.ids[: len(e.ids) - (end is not None)].tolist() for e in encode_documents(model.tokenizer, asked)]
    room = model.target.context - sampling.max_new_tokens
    with torch.random.fork_rng(devices=_devices(model)):
        torch.manual_seed(sampling.seed * 1_000 + turn)
        for places in _batches(prompts, room, sampling.max_new_tokens):
            for place, ids in zip(places, _write(model, [prompts[p] for p in places], sampling), strict=True):
                yield place, model.tokenizer.decode(ids, skip_special_tokens=True), len(ids)
    for place, prompt in enumerate(prompts):
        if not 0 < len(prompt) <= room:
            yield place, "", 0


def _write(model: LoadedModel, prompts: list[list[int]], sampling: Sampling) -> list[list[int]]:
    """The tokens after every prompt, up to the one that ends it."""
    target = model.target
    pad = model.tokenizer.pad_token_id if model.tokenizer.pad_token_id is not None else min(target.eos_ids, default=0)
    longest = max(map(len, prompts))
    tokens = torch.full((len(prompts), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):  # padded on the left: an answer goes on where its prompt ends
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    how: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampling.temperature > 0:
        how = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    written = target.generate_batch(tokens, mask, sampling.max_new_tokens, pad, **how)
    return [_until_end(row, target.eos_ids) for row in written[:, longest:].tolist()]


def _until_end(ids: list[int], ends: frozenset[int]) -> list[int]:
    return ids[: next((at for at, token in enumerate(ids) if token in ends), len(ids))]


def _batches(prompts: Sequence[Sequence[int]], room: int, more: int) -> Iterator[list[int]]:
    """Places of prompts of like length that there is room for, BATCH_TOKENS a batch with their answers."""
    batch: list[int] = []
    fitting = [place for place, prompt in enumerate(prompts) if 0 < len(prompt) <= room]
    for place in sorted(fitting, key=lambda place: len(prompts[place])):
        if batch and (len(batch) + 1) * (len(prompts[place]) + more) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _devices(model: LoadedModel) -> list[Any]:
    return [model.target.device] if model.target.device.type == "cuda" else []

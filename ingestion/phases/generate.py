"""The generate phase: the target answers the prompts itself, for an ID store (arXiv 2502.15572, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dresd_milvus.corpus import Document
from dresd_milvus.corpus.documents import encode_documents
from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import LoadedModel
from ingestion.planning.documents import NumberedDocuments

BATCH_TOKENS = 8192
"""Maximum number of tokens of a batch of texts: prompts, answers and padding."""


@dataclass(frozen=True)
class AnswerSampling:
    """How answers are drawn. temperature: 0 is greedy. max_new_tokens: of one answer.

    seed: of one shard, so that a shard that is begun again gets the same answers.
    """

    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int


def generate_shard(
    model: LoadedModel,
    shard: NumberedDocuments,
    sampling: AnswerSampling,
    advance: Callable[[int], None] = lambda tokens: None,
) -> list[Document]:
    """The documents of a shard with the target's answers in place of theirs.

    Conversations are answered turn by turn, each turn after the target's own answers before it. An answer is empty
    where the prompt is too long for the context. advance: called with the number of tokens of every answer.
    Raises InputError where max_new_tokens is the whole context, so that no prompt fits.
    """
    if sampling.max_new_tokens >= model.target.context:
        raise InputError(
            f"answers of {sampling.max_new_tokens} tokens leave no room for a prompt in the model's context of "
            f"{model.target.context}; give a smaller --answer-tokens"
        )
    conversations = [list(document.turns) for document in shard.documents]
    for turn in range(1, max(map(len, conversations), default=0), 2):
        unanswered = [index for index, turns in enumerate(conversations) if len(turns) > turn]
        prompts = [Document((*conversations[index][:turn], ""), "") for index in unanswered]
        for place, answer, tokens in _answers(model, prompts, sampling, turn):
            conversations[unanswered[place]][turn] = answer
            advance(tokens)
    return [Document(tuple(t), d.origin) for t, d in zip(conversations, shard.documents, strict=True)]


def _answers(
    model: LoadedModel, documents: Sequence[Document], sampling: AnswerSampling, turn: int
) -> Iterator[tuple[int, str, int]]:
    """(place, answer, number of its tokens) of every document, which ends in a prompt."""
    end = model.tokenizer.eos_token_id
    prompts = [e.ids[: len(e.ids) - (end is not None)].tolist() for e in encode_documents(model.tokenizer, documents)]
    max_prompt = model.target.context - sampling.max_new_tokens
    with torch.random.fork_rng(devices=_cuda_devices(model)):
        torch.manual_seed(sampling.seed * 1_000 + turn)
        for places in _batches(prompts, max_prompt, sampling.max_new_tokens):
            for place, ids in zip(places, _answer_batch(model, [prompts[p] for p in places], sampling), strict=True):
                yield place, model.tokenizer.decode(ids, skip_special_tokens=True), len(ids)
    for place, prompt in enumerate(prompts):
        if not 0 < len(prompt) <= max_prompt:
            yield place, "", 0


def _answer_batch(model: LoadedModel, prompts: list[list[int]], sampling: AnswerSampling) -> list[list[int]]:
    """The token ids of the answers to these prompts, without the end token. Prompts are padded on the left."""
    target = model.target
    pad = model.tokenizer.pad_token_id if model.tokenizer.pad_token_id is not None else min(target.eos_ids, default=0)
    longest = max(map(len, prompts))
    tokens = torch.full((len(prompts), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    options: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampling.temperature > 0:
        options = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    written = target.generate_batch(tokens, mask, sampling.max_new_tokens, pad, **options)
    return [_before_end(row, target.eos_ids) for row in written[:, longest:].tolist()]


def _before_end(ids: list[int], end_ids: frozenset[int]) -> list[int]:
    return ids[: next((at for at, token in enumerate(ids) if token in end_ids), len(ids))]


def _batches(prompts: Sequence[Sequence[int]], max_prompt: int, max_new_tokens: int) -> Iterator[list[int]]:
    """Places of prompts of similar length, at most BATCH_TOKENS a batch with answers; too long ones are left out."""
    batch: list[int] = []
    fitting = [place for place, prompt in enumerate(prompts) if 0 < len(prompt) <= max_prompt]
    for place in sorted(fitting, key=lambda place: len(prompts[place])):
        if batch and (len(batch) + 1) * (len(prompts[place]) + max_new_tokens) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _cuda_devices(model: LoadedModel) -> list[Any]:
    return [model.target.device] if model.target.device.type == "cuda" else []

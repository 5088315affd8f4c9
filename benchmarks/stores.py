"""Stores for benchmarks, made in a folder without a database: a replica and a suffix store of the same texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dresd_milvus.corpus import Document, Encoded, Template, encode_documents
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.retrieval.projection import Projection, ProjectionFit
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.store import POSITION_BITS, Manifest, Rows
from dresd_milvus.retrieval.suffix_store import SuffixStore
from dresd_milvus.storage.opening import Retrieval
from dresd_milvus.systems.registry import Sources
from dresd_milvus.target.hf_target import HFTarget
from ingestion.phases.embed import continuations

CONTINUATION, DIM = 20, 64


def encode(model: LoadedModel, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
    """Tokenise (prompt, answer) pairs in the default template, without those that exceed the model's context."""
    template = Template()
    documents = [Document((template(prompt), answer), "") for prompt, answer in pairs]
    return [e for e in encode_documents(model.tokenizer, documents) if 2 <= len(e.ids) <= model.target.context]


def build(model: LoadedModel, texts: Sequence[Encoded], folder: Path) -> Sources:
    """A replica and a suffix store of all tokens of these texts."""
    fit, states = ProjectionFit(model.target.hidden_size), []
    for text in texts:
        ids = torch.from_numpy(text.ids.astype(np.int64))[None]
        states.append(model.target.embed(ids, torch.ones_like(ids))[0, :-1].float())
        fit.add(states[-1])
    projection = fit.result(DIM)
    rows = [_rows(number, text.ids, projection, states[number]) for number, text in enumerate(texts)]
    manifest = Manifest(
        model.name, model.fingerprint, model.tokenizer_hash, projection.fingerprint, DIM, CONTINUATION, None, "bench",
        rows=sum(map(len, rows)),
    )  # fmt: skip
    replica = Replica.build(manifest, iter(rows), folder / "replica")
    suffixes = SuffixStore.build(folder / "suffixes", (t.ids for t in texts), tokenizer=model.tokenizer_hash)
    return Sources(Retrieval(replica, projection, "replica"), suffixes)


def _rows(number: int, ids: np.ndarray, projection: Projection, states: torch.Tensor) -> Rows:
    following = continuations(ids, CONTINUATION)
    return Rows((number << POSITION_BITS) + np.arange(len(following)), projection(states).numpy(), following)


def answers(target: HFTarget, prompts: Sequence[list[int]], tokens: int, seed: int, batch: int = 64) -> list[Encoded]:
    """Prompts with the answers that the target samples to them, at temperature 0.7 and top-p 0.95."""
    torch.manual_seed(seed)
    texts = []
    prompts = sorted((ids for ids in prompts if len(ids) + tokens < target.context), key=len)
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        for prompt, answer in zip(part, write(target, part, tokens, 0.7), strict=True):
            whole = np.array(prompt + answer, np.int32)
            texts.append(Encoded(whole, np.arange(len(whole)) >= len(prompt), "", np.empty((0, 2), np.int64)))
    return texts


def write(target: HFTarget, prompts: Sequence[list[int]], tokens: int, temperature: float) -> list[list[int]]:
    """The target's answers (token ids) to these prompts, which form one batch.

    tokens: of an answer at most, with its end token. Sampled with top-p 0.95; temperature 0 is greedy.
    """
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    sampled = {"do_sample": True, "temperature": temperature, "top_p": 0.95, "top_k": 0}
    how = sampled if temperature else {"do_sample": False}
    written = target.generate_batch(ids, mask, tokens, 0, **how)[:, width:].tolist()
    ends = (next((at + 1 for at, t in enumerate(row) if t in target.eos_ids), len(row)) for row in written)
    return [row[:end] for row, end in zip(written, ends, strict=True)]

"""Which layer, dimension, K, N and store size draft best: stores built in memory, one after another, no database.

The target reads the corpus and the held-out texts once, all layers; every setting makes its keys from these states.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dresd_milvus.corpus import (
    Document,
    Encoded,
    ReadOptions,
    Source,
    Template,
    encode_documents,
    read_documents,
    stdlib,
)
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.retrieval.projection import ProjectionFit
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.store import NEIGHBOURS, PAD, POSITION_BITS, Manifest, Rows
from evaluation.offline.intrinsic import Says, Shape, Text, force, said

BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Setting:
    """layer: whose states are keys, from 0 (the embedding) to the last, -1. dim: of the keys. neighbours: K, hits of a
    search. continuation: N, tokens a row. store: share of the corpus's documents that are in the store.
    """

    layer: int = -1
    dim: int = 64
    neighbours: int = NEIGHBOURS
    continuation: int = 20
    store: float = 1.0


def parse_vary(text: str) -> tuple[str, list[Setting]]:
    """'dim=16,64' -> ('dim', the usual setting with each of these values); raises InputError for anything else."""
    name, _, values = text.partition("=")
    kind = {"layer": int, "dim": int, "neighbours": int, "continuation": int, "store": float}.get(name)
    try:
        found = [replace(Setting(), **{name: kind(value)}) for value in values.split(",")] if kind else []
    except ValueError:
        found = []
    if not found or not all(0 < s.store <= 1 and s.dim > 0 and s.neighbours > 0 and s.continuation > 1 for s in found):
        raise InputError(
            f"'{text}' cannot be varied; give layer=0,3,6 dim=16,64 neighbours=10,50 continuation=5,20 or "
            "store=0.1,1 (a share)"
        )
    return name, found


def read_texts(
    model: LoadedModel,
    source: str,
    template: Template | str | None,
    most: int,
    held_back: bool,
    tokens: int | None = None,
) -> list[Encoded]:
    """Documents of a source as tokens, at most `most` of them or about `tokens` tokens, those that fit the context.

    held_back: of 'stdlib', the functions that ingestion leaves out. Raises InputError when nothing is left.
    """
    reading = ReadOptions(template=template, tokenizer=model.tokenizer)
    if source == "stdlib" and held_back:
        put, pairs = reading.format_prompt, list(stdlib.pairs(held_back=True))
        documents = [Document((put(p.prompt), p.response), "") for s in range(11) for p in pairs[s::11]]
    else:
        documents = list(read_documents(Source.parse(source), reading, None))
    found: list[Encoded] = []
    read = 0
    for start in range(0, len(documents), 64):
        for encoded in encode_documents(model.tokenizer, documents[start : start + 64]):
            if 2 <= len(encoded.ids) <= model.target.context:
                found.append(encoded)
                read += len(encoded.ids)
            if len(found) >= most or (tokens and read >= tokens):
                return found
    if not found:
        raise InputError(f"no document of {source} fits the model's context")
    return found


def as_text(encoded: Encoded) -> Text:
    """What is forced of a document: from its first answer on, or of a plain text all but the first token."""
    return Text(encoded.ids.tolist(), max(int(np.argmax(encoded.answered)), 1))


class Study:
    """corpus: what goes into the stores; held: texts kept out of them."""

    def __init__(self, model: LoadedModel, corpus: Sequence[Encoded], held: Sequence[Encoded]) -> None:
        self.model, self.corpus = model, corpus
        self.texts = [as_text(encoded) for encoded in held]
        self._asked = {id(text): self._read(text.ids) for text in self.texts}
        self._stored = [self._read(encoded.ids.tolist()) for encoded in corpus]

    def _read(self, ids: list[int]) -> list[Tensor]:
        """The states [T, H] of every layer, in half precision."""
        tokens = torch.tensor([ids])
        return [layer[0].half().cpu() for layer in self.model.target.embed_layers(tokens, torch.ones_like(tokens))]

    def _says(self, text: Text, layer: int) -> Says:
        states = self._asked[id(text)][layer].float()
        return lambda first, last: said(states[first:last])

    def run(self, setting: Setting, shapes: Sequence[Shape], positions: int) -> dict[str, Any]:
        """Accepted length by shape; raises InputError for a layer that the model does not have."""
        layers = len(self._stored[0])
        if not -layers <= setting.layer < layers:
            raise InputError(f"there is no layer {setting.layer}; the model has 0 (the embedding) to {layers - 1}")
        count = max(round(setting.store * len(self.corpus)), 1)
        fit = ProjectionFit(self.model.target.hidden_size)
        for states in self._stored[:count]:
            fit.add(states[setting.layer][:-1].float())
        projection = fit.result(setting.dim)
        rows = [self._rows(n, setting, projection) for n in range(count)]
        manifest = Manifest(
            self.model.name, self.model.fingerprint, self.model.tokenizer_hash, projection.fingerprint, setting.dim,
            setting.continuation, None, "study", rows=sum(map(len, rows)),
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            store = Replica.build(manifest, iter(rows), Path(folder) / "replica")
            drafter = Dense(store, projection, setting.neighbours)
            found = force(self.texts, lambda text: self._says(text, setting.layer), [drafter], shapes, positions)
        return {
            **asdict(setting),
            "rows": manifest.rows,
            "explained": float(projection.explained.sum()),
            "by_shape": [{**asdict(shape), **tally.summary()} for shape, tally in found["dense"].items()],
        }

    def _rows(self, number: int, setting: Setting, projection: Any) -> Rows:
        ids = self.corpus[number].ids
        following = np.full((len(ids) - 1, setting.continuation), PAD, np.int32)
        for row in range(len(ids) - 1):
            part = ids[row + 1 : row + 1 + setting.continuation]
            following[row, : len(part)] = part
        keys = projection(self._stored[number][setting.layer][:-1].float()).numpy()
        return Rows((number << POSITION_BITS) + np.arange(len(keys)), keys, following)

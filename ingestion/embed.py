"""Documents to hidden states to rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.corpus import Document, Encoded, Template, encode_documents
from dresd_milvus.loading import LoadedModel
from dresd_milvus.projection import Projection, ProjectionFit
from dresd_milvus.store import PAD, POSITION_BITS, Rows

BATCH_TOKENS = 4096
"""Tokens of one forward pass, padding counted."""


class Embedder:
    """Runs the target over documents."""

    def __init__(self, model: LoadedModel, template: Template | None, max_length: int) -> None:
        self.model, self.template, self.max_length = model, template, max_length

    def encode(self, documents: Sequence[Document]) -> list[Encoded]:
        return encode_documents(self.model.tokenizer, self.template, documents, self.max_length)

    def states(self, encoded: Sequence[Encoded]) -> Iterator[tuple[int, Tensor]]:
        """(index, hidden states [T - 1, H]) of every document of two tokens or more, in order of length.

        The last token's state is left out: nothing follows it. Documents of like length share a batch, padded on
        the right, where a causal model never looks.
        """
        target = self.model.target
        for batch in _batches(encoded):
            longest = max(len(encoded[index].ids) for index in batch) - 1
            tokens = torch.zeros(len(batch), longest, dtype=torch.long)
            mask = torch.zeros(len(batch), longest, dtype=torch.long)
            for row, index in enumerate(batch):
                ids = encoded[index].ids[:-1]
                tokens[row, : len(ids)] = torch.tensor(ids)
                mask[row, : len(ids)] = 1
            hidden = target.embed(tokens.to(target.device), mask.to(target.device))
            for row, index in enumerate(batch):
                yield index, hidden[row, : len(encoded[index].ids) - 1]

    def fit(self, fit: ProjectionFit, documents: Sequence[Document]) -> Iterator[int]:
        """Add the states of these documents to a fit; yields the number of tokens of every batch."""
        for _, hidden in self.states(self.encode(documents)):
            fit.add(hidden)
            yield len(hidden)

    def rows(
        self, projection: Projection, documents: Sequence[Document], first: int, continuation: int
    ) -> Iterator[Rows]:
        """The rows of these documents, numbered from `first`; one Rows a document."""
        encoded = self.encode(documents)
        for index, hidden in self.states(encoded):
            ids = np.array(encoded[index].ids, np.int32)
            yield Rows(
                pk=((first + index) << POSITION_BITS) + np.arange(len(ids) - 1, dtype=np.int64),
                vectors=projection(hidden).cpu().numpy(),
                next_tokens=continuations(ids, continuation),
                origin=documents[index].origin,
                previews=[encoded[index].preview(t, continuation) for t in range(len(ids) - 1)],
            )


def continuations(ids: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """ids [T] -> int32 [T - 1, size]: row t holds ids[t + 1 : t + 1 + size], padded with -1 past the end."""
    padded = np.concatenate((ids[1:], np.full(size - 1, PAD, np.int32)))
    return np.ascontiguousarray(sliding_window_view(padded, size))


def gathered(parts: Iterable[Rows], size: int = 5_000) -> Iterator[Rows]:
    """Join small Rows of one origin into batches of about `size` rows."""
    held: list[Rows] = []
    for rows in parts:
        if held and (rows.origin != held[0].origin or sum(map(len, held)) + len(rows) > size):
            yield _joined(held)
            held = []
        held.append(rows)
    if held:
        yield _joined(held)


def _joined(parts: Sequence[Rows]) -> Rows:
    return Rows(
        pk=np.concatenate([rows.pk for rows in parts]),
        vectors=np.concatenate([rows.vectors for rows in parts]),
        next_tokens=np.concatenate([rows.next_tokens for rows in parts]),
        origin=parts[0].origin,
        previews=[preview for rows in parts for preview in rows.previews or [""] * len(rows)],
    )


def _batches(encoded: Sequence[Encoded]) -> Iterator[list[int]]:
    """Indices of documents of like length, BATCH_TOKENS a batch when padded."""
    batch: list[int] = []
    for index in sorted(range(len(encoded)), key=lambda index: len(encoded[index].ids)):
        if len(encoded[index].ids) < 2:
            continue
        if batch and (len(batch) + 1) * len(encoded[index].ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch

"""Documents to hidden states to rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.corpus import Document, Encoded, encode_documents
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.store import PAD, POSITION_BITS, Rows
from dresd_milvus.storage.inspection import Checksum
from dresd_milvus.storage.row_file import RowFile
from ingestion.planning.documents import Numbered
from ingestion.planning.prune import Pruning

BATCH_TOKENS = 4096
"""Tokens of one forward pass, padding counted."""

CARRY = 8
"""A window after the first begins with 1/CARRY of max_length tokens of context that are not rows again."""

IN_FLIGHT = 4
"""Batches that may wait to be written: what the forward pass runs ahead, and no more memory than that."""


class Window(NamedTuple):
    """A part of a document that goes through the model at once: its states at start..stop - 1, rows from `first` on."""

    document: int
    start: int
    first: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class Embedded(NamedTuple):
    """A batch: its windows, and their hidden states [R, H] or keys [R, d], one window's behind the other's."""

    windows: list[Window]
    values: Tensor


class Embedder:
    """Runs the target over documents."""

    def __init__(self, model: LoadedModel, max_length: int) -> None:
        self.model, self.max_length = model, min(max_length, model.target.context)

    def encode(self, documents: Sequence[Document]) -> list[Encoded]:
        """Tokenise documents."""
        return encode_documents(self.model.tokenizer, documents)

    def batches(self, encoded: Sequence[Encoded]) -> Iterator[list[Window]]:
        """Windows over every token but a document's last, after which nothing follows.

        Windows of like length share a batch, the longest come first, so that a batch that does not fit fails at once.
        """
        return _batches(_windows([len(e.ids) - 1 for e in encoded], self.max_length))

    def states(self, encoded: Sequence[Encoded]) -> Iterator[Embedded]:
        """The hidden states of every token but a document's last, at positions first..stop - 1 of every window."""
        for batch in self.batches(encoded):
            yield Embedded(batch, torch.cat(self._through(encoded, batch)))

    def flat_states(self, documents: Sequence[Document]) -> Iterator[tuple[Tensor, NDArray[np.int32]]]:
        """(states [n, H], continuations [n, 32] behind them) by batches, without padding and without context twice."""
        encoded = self.encode(documents)
        for batch in self.states(encoded):
            yield batch.values, following(batch, encoded)

    def keys(
        self, projection: Projection, encoded: Sequence[Encoded], pruning: Pruning, kept: Mapping[Window, Tensor]
    ) -> Iterator[Embedded]:
        """The states of positions that may become rows (see Pruning) as keys [R, d], projected on the device.

        kept: these states [R, H] of windows that went through the model before. The others of a batch go through it
        now, so that batches, and with them the order of rows, are the same whatever was kept.
        """
        for batch in self.batches(encoded):
            new = [window for window in batch if window not in kept]
            made = dict(zip(new, self._through(encoded, new) if new else (), strict=True))
            states = [
                made[w][pruning.positions(encoded[w.document], w.first, w.stop) - w.first]
                if w in made
                else kept[w].to(self.model.target.device)
                for w in batch
            ]
            yield Embedded(batch, projection(torch.cat(states)))

    def _through(self, encoded: Sequence[Encoded], batch: Sequence[Window]) -> list[Tensor]:
        """One pass of the model; padding is on the right, where a causal model never looks."""
        tokens = np.zeros((len(batch), max(map(len, batch))), np.int64)
        mask = np.zeros_like(tokens)
        for row, window in enumerate(batch):
            tokens[row, : len(window)] = encoded[window.document].ids[window.start : window.stop]
            mask[row, : len(window)] = 1
        hidden = self.model.target.embed(torch.from_numpy(tokens), torch.from_numpy(mask))
        return [hidden[row, w.first - w.start : len(w)] for row, w in enumerate(batch)]


class RowMaker:
    """Turns keys of numbered documents into rows. size: N, tokens of a continuation; pruning: of this shard."""

    def __init__(self, numbered: Numbered, encoded: Sequence[Encoded], size: int, pruning: Pruning) -> None:
        self.numbered, self.encoded, self.size, self.pruning = numbered, encoded, size, pruning

    def __call__(self, embedded: Embedded) -> Iterator[Rows]:
        """The rows of a batch, one Rows a source."""
        keys, at, parts = embedded.values.cpu().numpy(), 0, []
        for window in embedded.windows:
            positions = self.pruning.positions(self.encoded[window.document], window.first, window.stop)
            parts.append(self._rows(window.document, positions, keys[at : at + len(positions)]))
            at += len(positions)
        for origin in sorted({part.origin for part in parts}):
            yield _joined([part for part in parts if part.origin == origin])

    def _rows(self, document: int, positions: NDArray[np.int64], keys: NDArray[np.float32]) -> Rows:
        encoded = self.encoded[document]
        rows = Rows(
            pk=((self.numbered.first + document) << POSITION_BITS) + positions,
            vectors=keys,
            next_tokens=continuations(encoded.ids, self.size)[positions],
            origin=self.numbered.documents[document].origin,
            previews=encoded.previews(positions, self.size),
        )
        return self.pruning(rows)


def embed_shard(
    embedder: Embedder,
    projection: Projection,
    numbered: Numbered,
    path: Path,
    size: int,
    pruning: Pruning,
    kept: Mapping[Window, Tensor],
    advance: Callable[[int], None] = lambda tokens: None,
) -> dict[str, Any]:
    """Write the rows of a shard's documents into a file; {rows, checksum, file (its hash), tokens}.

    size: N, tokens of a continuation. kept: see Embedder.keys. advance is told of tokens, whether their states were
    kept or made. One thread makes and writes rows while the next batches go through the model.
    """
    encoded = embedder.encode(numbered.documents)
    maker, checksum, tokens = RowMaker(numbered, encoded, size, pruning), Checksum(), 0
    with RowFile(path) as file, ThreadPoolExecutor(1) as writer:

        def write(embedded: Embedded) -> int:
            for rows in maker(embedded):
                file.write(rows)
                checksum.add(rows)
            return sum(window.stop - window.first for window in embedded.windows)

        waiting: deque[Future[int]] = deque()
        for batch in embedder.keys(projection, encoded, pruning, kept):
            tokens += sum(map(len, batch.windows))
            waiting.append(writer.submit(write, batch))
            while len(waiting) > IN_FLIGHT:
                advance(waiting.popleft().result())
        while waiting:
            advance(waiting.popleft().result())
    return {"rows": file.rows, "checksum": checksum.hexdigest(), "file": file.digest, "tokens": tokens}


def following(batch: Embedded, encoded: Sequence[Encoded]) -> NDArray[np.int32]:
    """The continuations [R, 32] behind the states of a batch."""
    return np.concatenate([continuations(encoded[w.document].ids, 32)[w.first : w.stop] for w in batch.windows])


def continuations(ids: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """ids [T] -> int32 [T - 1, size]: row t holds ids[t + 1 : t + 1 + size], padded with -1 past the end."""
    padded = np.concatenate((ids[1:], np.full(size - 1, PAD, np.int32)))
    return sliding_window_view(padded, size)


def _joined(parts: Sequence[Rows]) -> Rows:
    return Rows(
        pk=np.concatenate([rows.pk for rows in parts]),
        vectors=np.concatenate([rows.vectors for rows in parts]),
        next_tokens=np.concatenate([rows.next_tokens for rows in parts]),
        origin=parts[0].origin,
        previews=[preview for rows in parts for preview in rows.previews or ()],
    )


def _windows(lengths: Sequence[int], size: int) -> list[Window]:
    """Windows of at most `size` states over documents that have so many."""
    found = []
    carry = size // CARRY
    for document, length in enumerate(lengths):
        first = 0
        while first < length:
            start = max(first - carry, 0)
            stop = min(start + size, length)
            found.append(Window(document, start, first, stop))
            first = stop
    return found


def _batches(windows: list[Window]) -> Iterator[list[Window]]:
    """Windows of like length, BATCH_TOKENS a batch when padded, the longest first."""
    batch: list[Window] = []
    for window in sorted(windows, key=len, reverse=True):
        if batch and (len(batch) + 1) * len(batch[0]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch

"""The embed phase: the target reads the documents of a shard, and its hidden states become the rows of a file."""

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
from ingestion.planning.documents import NumberedDocuments
from ingestion.planning.prune import Pruning

BATCH_TOKENS = 4096
"""Maximum number of tokens of one forward pass, padding included."""

OVERLAP_DIVISOR = 8
"""Every window but the first begins with max_length / OVERLAP_DIVISOR tokens that the window before has read too."""

MAX_WAITING_BATCHES = 4
"""Batches that may wait for the writing thread; the bound of their memory."""

FIT_CONTINUATION = 32
"""Tokens of the continuations that the fit measures draft quality with."""


class Window(NamedTuple):
    """A part of a document that goes through the model at once.

    The model reads the tokens start..stop - 1 of the document; the states at first..stop - 1 may become rows. The
    tokens before `first` are context, whose states belong to the window before.
    """

    document: int
    start: int
    first: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class EmbeddedBatch(NamedTuple):
    """Windows of one batch. values: their hidden states [R, H] or keys [R, d], window after window."""

    windows: list[Window]
    values: Tensor


class RowSettings(NamedTuple):
    """How rows are made. projection: makes keys of states. continuation: N, tokens of a row. pruning: of this shard."""

    projection: Projection
    continuation: int
    pruning: Pruning


class Embedder:
    """Runs the target over documents. max_length: tokens of a window, at most the context of the model."""

    def __init__(self, model: LoadedModel, max_length: int) -> None:
        self.model, self.max_length = model, min(max_length, model.target.context)

    def encode(self, documents: Sequence[Document]) -> list[Encoded]:
        """Tokenise documents."""
        return encode_documents(self.model.tokenizer, documents)

    def batches(self, encoded: Sequence[Encoded]) -> Iterator[list[Window]]:
        """Batches of windows over all tokens but the last of each document, which nothing follows."""
        return batch_by_length(split_into_windows([len(e.ids) - 1 for e in encoded], self.max_length))

    def states(self, encoded: Sequence[Encoded]) -> Iterator[EmbeddedBatch]:
        """The hidden states [R, H] of all tokens but the last of each document, batch by batch."""
        for batch in self.batches(encoded):
            yield EmbeddedBatch(batch, torch.cat(self._forward(encoded, batch)))

    def flat_states(self, documents: Sequence[Document]) -> Iterator[tuple[Tensor, NDArray[np.int32]]]:
        """(states [R, H], their continuations [R, FIT_CONTINUATION]) of all tokens of documents, batch by batch."""
        encoded = self.encode(documents)
        for batch in self.states(encoded):
            yield batch.values, batch_continuations(batch, encoded)

    def keys(
        self, encoded: Sequence[Encoded], settings: RowSettings, kept: Mapping[Window, Tensor]
    ) -> Iterator[EmbeddedBatch]:
        """The keys [R, d] of the positions that may become rows, batch by batch.

        kept: states [R, H] that the fit has left, by window. The other windows of a batch go through the model now.
        Batches, and so the order of rows, do not depend on `kept`.
        """
        for batch in self.batches(encoded):
            new = [window for window in batch if window not in kept]
            computed = dict(zip(new, self._forward(encoded, new) if new else (), strict=True))
            states = [
                computed[w][settings.pruning.positions(encoded[w.document], w.first, w.stop) - w.first]
                if w in computed
                else kept[w].to(self.model.target.device)
                for w in batch
            ]
            yield EmbeddedBatch(batch, settings.projection(torch.cat(states)))

    def _forward(self, encoded: Sequence[Encoded], batch: Sequence[Window]) -> list[Tensor]:
        """One forward pass: the states [stop - first, H] of every window. Padding is on the right."""
        tokens = np.zeros((len(batch), max(map(len, batch))), np.int64)
        mask = np.zeros_like(tokens)
        for row, window in enumerate(batch):
            tokens[row, : len(window)] = encoded[window.document].ids[window.start : window.stop]
            mask[row, : len(window)] = 1
        hidden = self.model.target.embed(torch.from_numpy(tokens), torch.from_numpy(mask))
        return [hidden[row, w.first - w.start : len(w)] for row, w in enumerate(batch)]


class RowMaker:
    """Makes rows of the keys of a shard. encoded: its documents, tokenised."""

    def __init__(self, shard: NumberedDocuments, encoded: Sequence[Encoded], settings: RowSettings) -> None:
        self.shard, self.encoded, self.settings = shard, encoded, settings

    def __call__(self, batch: EmbeddedBatch) -> Iterator[Rows]:
        """The rows of a batch of keys, one Rows for each source."""
        keys, at, parts = batch.values.cpu().numpy(), 0, []
        for window in batch.windows:
            positions = self.settings.pruning.positions(self.encoded[window.document], window.first, window.stop)
            parts.append(self._window_rows(window.document, positions, keys[at : at + len(positions)]))
            at += len(positions)
        for origin in sorted({part.origin for part in parts}):
            yield _join([part for part in parts if part.origin == origin])

    def _window_rows(self, document: int, positions: NDArray[np.int64], keys: NDArray[np.float32]) -> Rows:
        encoded, size = self.encoded[document], self.settings.continuation
        rows = Rows(
            pk=((self.shard.first + document) << POSITION_BITS) + positions,
            vectors=keys,
            next_tokens=continuations(encoded.ids, size)[positions],
            origin=self.shard.documents[document].origin,
            previews=encoded.previews(positions, size),
        )
        return self.settings.pruning.select(rows)


def embed_shard(
    embedder: Embedder,
    shard: NumberedDocuments,
    settings: RowSettings,
    path: Path,
    kept: Mapping[Window, Tensor],
    advance: Callable[[int], None] = lambda tokens: None,
) -> dict[str, Any]:
    """Write the rows of a shard into a file.

    kept: states that the fit has left, see Embedder.keys. advance: called with the number of tokens of every batch
    that is written. A second thread makes and writes rows while the next batches go through the model.
    Returns {rows, checksum, file: hash of the file, tokens: that the windows hold}. Raises OSError on a full disk.
    """
    encoded = embedder.encode(shard.documents)
    maker, checksum, tokens = RowMaker(shard, encoded, settings), Checksum(), 0
    with RowFile(path) as file, ThreadPoolExecutor(1) as writer:

        def write(batch: EmbeddedBatch) -> int:
            for rows in maker(batch):
                file.write(rows)
                checksum.add(rows)
            return sum(window.stop - window.first for window in batch.windows)

        waiting: deque[Future[int]] = deque()
        for batch in embedder.keys(encoded, settings, kept):
            tokens += sum(map(len, batch.windows))
            waiting.append(writer.submit(write, batch))
            while len(waiting) > MAX_WAITING_BATCHES:
                advance(waiting.popleft().result())
        while waiting:
            advance(waiting.popleft().result())
    return {"rows": file.rows, "checksum": checksum.hexdigest(), "file": file.digest, "tokens": tokens}


def continuations(ids: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """ids [T] -> int32 [T - 1, size]: row t holds ids[t + 1 : t + 1 + size], padded with -1 past the end."""
    padded = np.concatenate((ids[1:], np.full(size - 1, PAD, np.int32)))
    return sliding_window_view(padded, size)


def batch_continuations(batch: EmbeddedBatch, encoded: Sequence[Encoded]) -> NDArray[np.int32]:
    """The continuations [R, FIT_CONTINUATION] of the states of a batch."""
    return np.concatenate(
        [continuations(encoded[w.document].ids, FIT_CONTINUATION)[w.first : w.stop] for w in batch.windows]
    )


def _join(parts: Sequence[Rows]) -> Rows:
    return Rows(
        pk=np.concatenate([rows.pk for rows in parts]),
        vectors=np.concatenate([rows.vectors for rows in parts]),
        next_tokens=np.concatenate([rows.next_tokens for rows in parts]),
        origin=parts[0].origin,
        previews=[preview for rows in parts for preview in rows.previews or ()],
    )


def split_into_windows(lengths: Sequence[int], size: int) -> list[Window]:
    """Windows of at most `size` tokens over documents with these numbers of states."""
    windows = []
    overlap = size // OVERLAP_DIVISOR
    for document, length in enumerate(lengths):
        first = 0
        while first < length:
            start = max(first - overlap, 0)
            stop = min(start + size, length)
            windows.append(Window(document, start, first, stop))
            first = stop
    return windows


def batch_by_length(windows: Sequence[Window]) -> Iterator[list[Window]]:
    """Batches of windows of similar length, at most BATCH_TOKENS each once padded.

    The longest windows come first, so that a batch too large for the memory fails at once.
    """
    batch: list[Window] = []
    for window in sorted(windows, key=len, reverse=True):
        if batch and (len(batch) + 1) * len(batch[0]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch

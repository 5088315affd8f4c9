"""An exact in-process copy of a collection, for searches that must not cost a decoding step anything.

Rows are grouped by their first token, so a search is one matrix-vector product over one group: exact, and faster
than any approximate index over everything. A copy is streamed from the database once and kept as memory-mapped
files under the collection's seal: 336 bytes a row with float32 keys of 64 dimensions and 20 tokens, 208 with half
precision.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.errors import StoreError
from dresd_milvus.store import Hits, Manifest, Rows

COPY_ROWS = 65_536


class Replica:
    """Rows sorted by (first token, primary key). Implements ContinuationStore.

    keys: float32 or float16 [R, d]; continuations: int32 [R, N]; starts: int64 [T + 1], where the group of each
    first token begins (T: the largest first token + 1).
    """

    def __init__(
        self,
        manifest: Manifest,
        keys: NDArray[Any],
        continuations: NDArray[np.int32],
        starts: NDArray[np.int64],
    ) -> None:
        self.manifest = manifest
        self.continuations, self.starts = continuations, starts
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the mapping is read-only, and nothing here writes to it
            self.keys = torch.from_numpy(keys)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes it occupies when all of it is in memory."""
        return self.keys.nbytes + self.continuations.nbytes + self.starts.nbytes

    def search(self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int) -> Hits:
        scores, continuations = hits = Hits.none(len(queries), k, self.continuations.shape[1])
        for index, query in enumerate(queries):
            start, end = (0, len(self)) if next_tokens is None else self._group(int(next_tokens[index]))
            if end > start:
                # torch, not numpy: its thread pool is the model's, and two pools in one loop fight over the cores.
                with torch.inference_mode():
                    similarity = torch.mv(self.keys[start:end].float(), torch.from_numpy(query)).numpy()
                _take_best(similarity, self.continuations[start:end], scores[index], continuations[index])
        return hits

    def _group(self, token: int) -> tuple[int, int]:
        if not 0 <= token < len(self.starts) - 1:
            return 0, 0
        return int(self.starts[token]), int(self.starts[token + 1])

    @classmethod
    def build(
        cls,
        manifest: Manifest,
        batches: Iterator[Rows],
        folder: Path,
        half: bool = False,
        progress: Callable[[int], None] = lambda rows: None,
    ) -> Replica:
        """Stream rows into files under `folder` and open them; nothing is left there if it fails half-way.

        half: keep keys in float16. progress(rows) is told of every batch. Raises StoreError when the rows that come
        are not the number that was sealed.
        """
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            _collect(manifest, batches, part, np.dtype(np.float16 if half else np.float32), progress)
            _sort(part)
            (part / "manifest.json").write_text(manifest.to_json())
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Replica:
        """A replica that was built before; raises StoreError when it is not whole."""
        try:
            manifest = Manifest.from_json((folder / "manifest.json").read_text())
            keys, continuations = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("keys", "continuations"))
            return cls(manifest, keys, continuations, np.load(folder / "starts.npy"))
        except (OSError, ValueError, EOFError) as error:
            raise StoreError(f"the replica in {folder} cannot be read ({error}); remove it and try again") from error


@compiled
def _take_best(
    similarity: NDArray[np.float32], rows: NDArray[np.int32], scores: NDArray[np.float32], into: NDArray[np.int32]
) -> None:
    """Put the best of rows [R, N] by similarity [R] into scores [K] and into [K, N], the best first."""
    order = np.empty(len(scores), np.int64)
    kept, most = 0, len(scores)
    for row in range(len(similarity)):
        value = similarity[row]
        if kept == most and value <= scores[most - 1]:
            continue
        place = min(kept, most - 1)
        while place > 0 and scores[place - 1] < value:
            scores[place], order[place] = scores[place - 1], order[place - 1]
            place -= 1
        scores[place], order[place] = value, row
        kept = min(kept + 1, most)
    for place in range(kept):
        into[place] = rows[order[place]]


def _collect(
    manifest: Manifest,
    batches: Iterator[Rows],
    folder: Path,
    dtype: np.dtype[Any],
    progress: Callable[[int], None],
) -> None:
    """Write the rows as they come: pk, keys, continuations, unsorted."""
    rows = manifest.rows
    pk = np.empty(rows, np.int64)
    keys = _new(folder / "keys.raw.npy", (rows, manifest.dim), dtype)
    continuations = _new(folder / "continuations.raw.npy", (rows, manifest.continuation), np.dtype(np.int32))
    at = 0
    for batch in batches:
        if at + len(batch) <= rows:
            here = slice(at, at + len(batch))
            pk[here], keys[here], continuations[here] = batch.pk, batch.vectors, batch.next_tokens
        at += len(batch)
        progress(len(batch))
    if at != rows:
        raise StoreError(f"the collection gave {at} rows and was sealed with {rows}; ingest again")
    np.save(folder / "pk.raw.npy", pk)
    keys.flush()
    continuations.flush()


def _sort(folder: Path) -> None:
    """Rewrite the raw files in the order of (first token, primary key) and remove them."""
    pk = np.load(folder / "pk.raw.npy")
    raw = {name: np.load(folder / f"{name}.raw.npy", mmap_mode="r") for name in ("keys", "continuations")}
    first = np.array(raw["continuations"][:, 0])
    order = np.lexsort((pk, first))
    counts = np.bincount(first) if len(first) else np.zeros(0, np.int64)
    np.save(folder / "starts.npy", np.concatenate(([0], np.cumsum(counts))).astype(np.int64))
    for name, source in raw.items():
        into = _new(folder / f"{name}.npy", source.shape, source.dtype)
        for start in range(0, len(order), COPY_ROWS):
            into[start : start + COPY_ROWS] = source[order[start : start + COPY_ROWS]]
        into.flush()
    for path in folder.glob("*.raw.npy"):
        path.unlink()


def _new(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)

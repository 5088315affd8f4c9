"""An in-process copy of a collection, for searches that must not cost a decoding step anything.

Rows are grouped by their first token, so a search goes over one group, all of it: exact, and faster than any
approximate index over everything. What a search costs is reading keys that the model's weights have driven out of the
processor's caches, so keys are kept as 16-bit fractions of their row's largest entry, in two planes: the high bytes are
scanned, the low ones are read of the few rows that the high ones leave in doubt. A copy is streamed from the database
once and kept as memory-mapped files under the collection's seal: 224 bytes a row with keys of 64 dimensions and 20
tokens. Within a group, rows are in the order of their origins, so that the rows of one origin are searched by
themselves at no cost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import DamagedFileError, StoreError
from dresd_milvus.files.atomic import atomic_folder, write_json, write_text
from dresd_milvus.files.digests import verify_digests, write_digests
from dresd_milvus.retrieval.nearest import ALL, ANY, Keys, nearest
from dresd_milvus.retrieval.store import NO_ROW, PAD, Hits, Manifest, Rows

COPY_ROWS = 65_536

FORMAT = "origins"
"""How its files are laid out; one of another layout is built anew."""

COLUMNS = ("high", "low", "scale", "continuations", "pk", "origin")
"""Its files, one row each of a row."""


class Columns(NamedTuple):
    """keys: of R rows. continuations: int32 [R, N]. pk: int64 [R], primary keys. origin: int32 [R], the numbers of
    their origins."""

    keys: Keys
    continuations: NDArray[np.int32]
    pk: NDArray[np.int64]
    origin: NDArray[np.int32]


class Replica:
    """Rows sorted by (first token, origin, primary key). Implements ContinuationStore.

    rows: see Columns. starts: int64 [T + 1], where the group of each first token begins (T: the largest first token
    + 1). origins: the names of the rows' origins. origin: number of the origin whose rows are searched, or ALL.
    """

    def __init__(
        self, manifest: Manifest, rows: Columns, starts: NDArray[np.int64], origins: Sequence[str] = ("",)
    ) -> None:
        self.manifest, self.rows, self.starts = manifest, rows, starts
        self.origins, self.origin = tuple(origins), ALL

    def __len__(self) -> int:
        return len(self.rows.pk)

    def of_origin(self, origin: str) -> Replica:
        """See ContinuationStore."""
        part = copy(self)
        part.origin = self.origins.index(origin) if origin in self.origins else len(self.origins)
        return part

    @property
    def nbytes(self) -> int:
        """Bytes it occupies when all of it is in memory."""
        return sum(part.nbytes for part in (*self.rows.keys, *self.rows[1:], self.starts))

    def search(self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int) -> Hits:
        """The k nearest rows, exactly; see ContinuationStore.search."""
        if next_tokens is None and self.origin != ALL:
            return self._of_any_token(queries, k)
        if not len(self):
            return Hits.none(len(queries), k, self.manifest.continuation)
        tokens = ANY if next_tokens is None else next_tokens
        scores, rows = nearest(*self.rows.keys, self.rows.origin, self.origin, self.starts, queries, tokens, k)
        found = rows >= 0
        pks = np.where(found, self.rows.pk[rows], NO_ROW)
        return Hits(scores, pks, np.where(found[:, :, None], self.rows.continuations[rows], PAD))

    def _of_any_token(self, queries: NDArray[np.float32], k: int) -> Hits:
        """Search one origin whatever the first token: token by token, for its rows do not lie together."""
        found = [self.search(queries, np.full(len(queries), t, np.int64), k) for t in range(len(self.starts) - 1)]
        scores, pks, continuations = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return Hits(scores, pks, continuations).take((np.arange(len(queries))[:, None], best))

    @classmethod
    def build(
        cls,
        manifest: Manifest,
        batches: Iterator[Rows],
        folder: Path,
        progress: Callable[[int], None] = lambda rows: None,
    ) -> Replica:
        """Stream rows into files under `folder` and open them; nothing is left there if it fails half-way.

        progress(rows) is told of every batch. Raises StoreError when the rows that come are not the number that was
        sealed.
        """
        with atomic_folder(folder, single_writer=True, replace=True) as part:
            origins = _collect(manifest, batches, part, progress)
            _sort(part)
            write_text(part / "manifest.json", manifest.to_json())
            write_json(part / "origins.json", origins)
            write_digests(part, ["manifest.json", "origins.json", "starts.npy", *(f"{n}.npy" for n in COLUMNS)])
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Replica:
        """A replica that was built before; raises StoreError when it is not as it was written (see files.digests)."""
        try:
            verify_digests(folder)
            manifest = Manifest.from_json((folder / "manifest.json").read_text())
            columns = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in COLUMNS}
            keys = Keys(*(columns.pop(name) for name in Keys._fields))
            origins = json.loads((folder / "origins.json").read_text())
            return cls(manifest, Columns(keys, **columns), np.load(folder / "starts.npy"), origins)
        except (OSError, ValueError, EOFError, DamagedFileError) as error:
            raise StoreError(f"the replica in {folder} cannot be read ({error}); remove it and try again") from error


def _collect(
    manifest: Manifest,
    batches: Iterator[Rows],
    folder: Path,
    progress: Callable[[int], None],
) -> list[str]:
    """Write the rows as they come, unsorted; the names of their origins, by number."""
    rows, dim = manifest.rows, manifest.dim
    shapes: dict[str, tuple[Any, ...]] = {
        "pk": (np.int64, rows),
        "high": (np.int8, rows, dim),
        "low": (np.uint8, rows, dim),
        "scale": (np.float32, rows),
        "continuations": (np.int32, rows, manifest.continuation),
        "origin": (np.int32, rows),
    }
    files = {
        name: _new(folder / f"{name}.raw.npy", tuple(shape), np.dtype(kind)) for name, (kind, *shape) in shapes.items()
    }
    at, origins = 0, dict[str, int]()
    for batch in batches:
        if at + len(batch) <= rows:
            origin = np.full(len(batch), origins.setdefault(batch.origin, len(origins)), np.int32)
            columns = (batch.pk, *Keys.of(batch.vectors), batch.next_tokens, origin)
            for file, column in zip(files.values(), columns, strict=True):
                file[at : at + len(batch)] = column
        at += len(batch)
        progress(len(batch))
    if at != rows:
        raise StoreError(f"the collection gave {at} rows and was sealed with {rows}; ingest again")
    for file in files.values():
        file.flush()
    return list(origins)


def _sort(folder: Path) -> None:
    """Rewrite the raw files in the order of (first token, origin, primary key) and remove them."""
    raw = {name: np.load(folder / f"{name}.raw.npy", mmap_mode="r") for name in COLUMNS}
    first = np.array(raw["continuations"][:, 0])
    order = np.lexsort((raw["pk"], raw["origin"], first))
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

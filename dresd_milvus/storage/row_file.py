"""Rows in Parquet files. They have the columns of a collection, so that Milvus's bulk import can read them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dresd_milvus.errors import DamagedFileError
from dresd_milvus.files.atomic import atomic_file
from dresd_milvus.retrieval.store import Rows

ENCODING: dict[str, Any] = {
    "use_dictionary": ["origin", "next_token"],
    "compression": {"next_tokens.list.element": "snappy", "preview": "snappy", "pk": "snappy", "next_token": "snappy"},
    "write_statistics": False,
}
"""Options of pyarrow's ParquetWriter. Keys do not compress; only sources and first tokens repeat, for dictionaries."""


SCHEMA = pa.schema(
    {
        "pk": pa.int64(),
        "vector": pa.list_(pa.float32()),  # Milvus's import does not take lists of fixed size
        "next_token": pa.int64(),
        "next_tokens": pa.list_(pa.int32()),
        "origin": pa.string(),
        "preview": pa.string(),
    }
)


class RowFile:
    """Context manager that writes one file, which appears under its name only when the block ends without an error.

    rows: number of rows so far. digest: BLAKE2b of the file's bytes, set at the end. Raises OSError when the disk is
    full.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self.digest = path, 0, ""
        self._open = ExitStack()  # file and writer: an error when the writer ends removes the file too
        self._file = _Hashing(self._open.enter_context(atomic_file(path, single_writer=True)))
        self._writer = self._open.enter_context(pq.ParquetWriter(self._file, SCHEMA, **ENCODING))

    def __enter__(self) -> RowFile:
        return self

    def write(self, rows: Rows) -> None:
        """Append rows."""
        count = len(rows)
        columns = {
            "pk": rows.pk,
            "vector": _lists(rows.vectors),
            "next_token": rows.next_tokens[:, 0].astype(np.int64),
            "next_tokens": _lists(rows.next_tokens),
            "origin": pa.array([rows.origin], pa.string()).take(pa.array(np.zeros(count, np.int32))),
            "preview": pa.array(rows.previews or [""] * count, pa.string()),
        }
        self._writer.write_table(pa.table(columns, schema=SCHEMA))
        self.rows += count

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)
        if kind is None:
            self.digest = self._file.hexdigest()


def read_rows(path: Path, digest: str | None = None) -> Iterator[Rows]:
    """Iterate over the rows of a file in batches of one origin.

    digest: RowFile.digest of the file, to check it. Raises DamagedFileError when the file is missing or damaged.
    """
    try:
        content: Any = path
        if digest is not None:
            content = path.read_bytes()
            if hashlib.blake2b(content, digest_size=16).hexdigest() != digest:
                raise DamagedFileError(f"{path} is damaged: its checksum differs")
            content = pa.BufferReader(content)
        with pq.ParquetFile(content) as file:
            for batch in file.iter_batches(10_000):
                yield from _by_origin(batch)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DamagedFileError(f"{path} cannot be read ({error})") from error


def _lists(values: NDArray[Any]) -> pa.ListArray:
    """A Parquet column of R lists from values [R, n]."""
    count, size = values.shape
    return pa.ListArray.from_arrays(np.arange(0, (count + 1) * size, size, dtype=np.int32), values.ravel())


def _by_origin(batch: pa.RecordBatch) -> Iterator[Rows]:
    """The rows of a batch, split by origin."""
    origins = batch.column("origin").dictionary_encode()
    numbers = origins.indices.to_numpy()
    for number, origin in enumerate(origins.dictionary.to_pylist()):
        part = batch if len(origins.dictionary) == 1 else batch.filter(pa.array(numbers == number))
        tokens = part.column("next_tokens")
        yield Rows(
            pk=part.column("pk").to_numpy(),
            vectors=part.column("vector").flatten().to_numpy().reshape(len(part), -1),
            next_tokens=tokens.flatten().to_numpy().reshape(len(part), -1),
            origin=str(origin),
            previews=part.column("preview").to_pylist(),
        )


class _Hashing(io.RawIOBase):
    """A file that also computes the BLAKE2b hash of the bytes that are written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._to, self._digest = file, hashlib.blake2b(digest_size=16)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return self._to.write(data)

    def flush(self) -> None:
        if not self._to.closed:
            self._to.flush()

    def fileno(self) -> int:
        return self._to.fileno()

    def close(self) -> None:
        self._to.close()
        super().close()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

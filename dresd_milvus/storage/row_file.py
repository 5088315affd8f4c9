"""Rows in Parquet files, with a collection's own columns, so that Milvus's bulk import reads them too."""

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
"""Keys do not compress, and nothing but sources and first tokens repeats as a whole."""


SCHEMA = pa.schema(
    {
        "pk": pa.int64(),
        "vector": pa.list_(pa.float32()),  # not of a fixed size, which Milvus's import does not take
        "next_token": pa.int64(),
        "next_tokens": pa.list_(pa.int32()),
        "origin": pa.string(),
        "preview": pa.string(),
    }
)


class RowFile:
    """Writes one file, whole or not at all: it has its name, and is on the disk, once it is closed without an error.

    digest: of its bytes, known then. Raises OSError where the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self.digest = path, 0, ""
        self._open = ExitStack()  # the file and its writer; an error of the writer's end takes the file away as well
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
    """The rows of a file in batches, one origin each; DamagedFileError where it is not what was written."""
    try:
        content: Any = path
        if digest is not None:
            content = path.read_bytes()
            if hashlib.blake2b(content, digest_size=16).hexdigest() != digest:
                raise DamagedFileError(f"{path} is damaged: it is not what was written")
            content = pa.BufferReader(content)
        with pq.ParquetFile(content) as file:
            for batch in file.iter_batches(10_000):
                yield from _by_origin(batch)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DamagedFileError(f"{path} cannot be read ({error})") from error


def _lists(values: NDArray[Any]) -> pa.ListArray:
    """values [R, n] as R lists."""
    count, size = values.shape
    return pa.ListArray.from_arrays(np.arange(0, (count + 1) * size, size, dtype=np.int32), values.ravel())


def _by_origin(batch: pa.RecordBatch) -> Iterator[Rows]:
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
    """A file that hashes what is written to it, in order."""

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

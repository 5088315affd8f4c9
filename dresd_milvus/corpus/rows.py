"""Rows of data sets: from json, jsonl, parquet and csv files, also gzipped, and from the Hugging Face hub."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from dresd_milvus.errors import InputError

FILE_TYPES = (".json", ".jsonl", ".csv", ".parquet")
"""Suffixes of the files that can be read; each may be followed by .gz."""


def file_type(path: Path) -> str:
    """The type of a file by its name, one of FILE_TYPES without .gz; '' for any other file."""
    name = path.name.removesuffix(".gz")
    return next((suffix for suffix in FILE_TYPES if name.endswith(suffix)), "")


def read_rows(path: Path, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a file, at most `limit`, one by one.

    Raises InputError for a file that cannot be read, and for a row that is not a JSON object; it names the row.
    """
    import pyarrow as pa

    readers = {".json": _json, ".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    try:
        yield from islice(readers[file_type(path)](path), limit)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; check the name") from error
    except (json.JSONDecodeError, UnicodeDecodeError, EOFError, OSError, csv.Error, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {error}; check that it is complete") from error


def _opened(path: Path) -> Any:
    """A file opened for reading bytes, decompressed if its name ends in .gz."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with _opened(path) as file:
        for number, line in enumerate((line for line in file if line.strip()), 1):
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise InputError(
                    f"row {number} of {path} cannot be read: {error}; check that it is complete"
                ) from error
            yield _object(path, number, row)


def _json(path: Path) -> Iterator[dict[str, Any]]:
    with _opened(path) as file:
        rows = json.load(file)
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
        yield _object(path, number, row)


def _object(path: Path, number: int, row: Any) -> dict[str, Any]:
    """The row; raises InputError if it is not a JSON object."""
    if not isinstance(row, dict):
        raise InputError(f"row {number} of {path} is not a JSON object; correct the file")
    return row


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)
    with _opened(path) as file:
        yield from csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(1_000):
            yield from batch.to_pylist()


def read_hub(
    name: str, config: str | None, split: str, streaming: bool, shuffle: int | None = None, path: Path | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a data set on the hub, or of a local copy.

    name, config, split: as on the hub. streaming: do not download the whole data set first. shuffle: seed of the order
    of rows, None for the original order. path: a local copy, read instead of the hub. Raises InputError if the data set
    cannot be loaded.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        if path is not None:
            kind = file_type(path).removeprefix(".").replace("jsonl", "json")
            rows = datasets.load_dataset(kind, data_files=str(path), split="train")
        else:
            rows = datasets.load_dataset(name, config, split=split, streaming=streaming and shuffle is None)
        if shuffle is not None:
            rows = rows.shuffle(seed=shuffle)
    except Exception as error:  # the exceptions differ between versions of the hub's client
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot load the dataset '{path or name}' ({reason}); check its name, --config and --split, or "
            "download it and give the file"
        ) from error
    yield from rows

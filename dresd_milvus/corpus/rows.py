"""Rows of a dataset: from json, jsonl, parquet and csv files, gzipped or not, and from the Hugging Face hub."""

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

KINDS = (".json", ".jsonl", ".csv", ".parquet")


def kind_of(path: Path) -> str:
    """The suffix that says how a file is read, '' for none of KINDS."""
    name = path.name.removesuffix(".gz")
    return next((kind for kind in KINDS if name.endswith(kind)), "")


def read_rows(path: Path, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a file, one by one; raises InputError, naming the row, at what is not a JSON object or not UTF-8."""
    import pyarrow as pa

    readers = {".json": _json, ".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    try:
        yield from islice(readers[kind_of(path)](path), limit)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, EOFError, OSError, csv.Error, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {error}; is it whole?") from error


def _opened(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with _opened(path) as file:
        for number, line in enumerate((line for line in file if line.strip()), 1):
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise InputError(f"row {number} of {path} cannot be read: {error}; is the file whole?") from error
            yield _object(path, number, row)


def _json(path: Path) -> Iterator[dict[str, Any]]:
    with _opened(path) as file:
        rows = json.load(file)
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
        yield _object(path, number, row)


def _object(path: Path, number: int, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"row {number} of {path} is not a JSON object")
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
    """The rows of a dataset on the hub, or of a local copy of it; in the order of shuffle(seed) if a seed is given.

    Raises InputError when it cannot be had.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        if path is not None:
            kind = kind_of(path).removeprefix(".").replace("jsonl", "json")
            rows = datasets.load_dataset(kind, data_files=str(path), split="train")
        else:
            rows = datasets.load_dataset(name, config, split=split, streaming=streaming and shuffle is None)
        if shuffle is not None:
            rows = rows.shuffle(seed=shuffle)
    except Exception as error:  # whatever the hub's client of the day raises, it means one thing here
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot load the dataset '{path or name}' ({reason}); see its name, --config and --split, or download it "
            "and name the file"
        ) from error
    yield from rows

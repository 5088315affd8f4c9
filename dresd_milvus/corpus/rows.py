"""Rows of data sets: from json, jsonl, csv and parquet files, also compressed with gzip, and from the hub."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import Any, BinaryIO

from dresd_milvus.corpus.files import not_utf8, opened
from dresd_milvus.errors import InputError

FILE_TYPES = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
"""Suffixes of the files that can be read; each may be followed by .gz."""

WRAPPERS = ("data", "rows", "train")
"""Keys under which the one object of a .json file may hold its rows, with other keys beside it."""

SHOWN_KEYS, SHOWN_CHARACTERS = 12, 40
"""Keys of a row, and characters of a key, that an error shows."""

Row = dict[str, Any]


def file_type(path: Path) -> str:
    """The type of a file by its name, one of FILE_TYPES without .gz; '' for any other file."""
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in FILE_TYPES if name.endswith(suffix)), "")


def read_rows(path: Path, limit: int | None = None, keys: Collection[str] | None = None) -> Iterator[Row]:
    """The rows of a file, at most `limit`, one by one.

    keys: the columns that are needed, None for all; the values of other columns of a Parquet file are None.
    Raises InputError, with the place, for a file that cannot be read or decoded and for what is not a row.
    """
    with opened(path) as file:
        kind = file_type(path)
        if kind == ".parquet":
            rows = _parquet(path, file, keys)
        else:
            rows = {".json": _json, ".csv": _csv}.get(kind, _jsonl)(path, file)
        yield from islice(rows, limit)


def shown_keys(row: Iterable[str]) -> str:
    """The keys of a row for an error, in one short line."""
    names = [name if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]}..." for name in row]
    more = [f"{len(names) - SHOWN_KEYS:,} more"] if len(names) > SHOWN_KEYS else []
    return " ".join(", ".join(names[:SHOWN_KEYS] + more).split()) or "none"


def _jsonl(path: Path, lines: Iterable[bytes]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        try:
            row = json.loads(line.removeprefix(codecs.BOM_UTF8).decode())  # files put together have a mark in each
        except (ValueError, RecursionError) as error:
            raise _no_json(f"line {number} of {path}", line, error) from error
        if not isinstance(row, dict):
            raise _no_object(f"line {number} of {path}", row)
        yield row


def _json(path: Path, file: BinaryIO) -> Iterator[Row]:
    data = file.read()
    if not data.strip():
        return
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        if not str(error).startswith("Extra data"):
            raise _no_json(str(path), data, error) from error
        yield from _jsonl(path, io.BytesIO(data))  # rows in lines are often called .json
        return
    for number, row in enumerate(_listed(path, value), 1):
        if not isinstance(row, dict):
            raise _no_object(f"row {number} of {path}", row)
        yield row


def _no_json(where: str, data: bytes, error: ValueError | RecursionError) -> InputError:
    """The error for data that is not a value of JSON. where: line and file; error: what decoding it raised."""
    if isinstance(error, UnicodeDecodeError):
        return not_utf8(where, error.start + 1, data[error.start])
    if isinstance(error, RecursionError):
        return InputError(f"{where} is nested too deeply; leave out what is no text")
    if isinstance(error, json.JSONDecodeError):
        why = "it has NUL bytes" if b"\0" in data else f"{error.msg.removesuffix(' at')} at character {error.pos + 1}"
        return InputError(f"{where} is not JSON ({why}); check that the file is complete")
    return InputError(f"{where} has a number of more than 4,300 digits; put it in quotes")  # Python's limit


def _no_object(where: str, value: Any) -> InputError:
    """The error for a value that is not a row."""
    if isinstance(value, list):
        return InputError(f"{where} is a list, not a JSON object; one list of rows is a .json file")
    return InputError(f"{where} is not a JSON object; write rows as {{...}}")


def _listed(path: Path, value: Any) -> list[Any]:
    """The rows of a JSON file: a list, the list that its one object holds, or the object itself.

    Raises InputError where the object may hold several lists of rows, or none.
    """
    if not isinstance(value, dict):
        return value if isinstance(value, list) else [value]
    lists = [key for key, held in value.items() if _are_rows(held)]
    if len(lists) == 1 and (lists[0] in WRAPPERS or len(value) == 1):
        return list(value[lists[0]])
    if len(lists) > 1 and (set(lists) & set(WRAPPERS) or len(lists) == len(value)):
        raise InputError(f"{path} has lists of rows under {shown_keys(lists)}; write one of them into a file")
    if all(isinstance(held, dict) or (isinstance(held, list) and not _of_objects(held)) for held in value.values()):
        raise InputError(
            f"{path} is one object with columns or nothing in it; write a list of rows, as pandas does with "
            "orient='records'"
        )
    return [value]


def _of_objects(held: Any) -> bool:
    return isinstance(held, list) and bool(held) and isinstance(held[0], dict)


def _are_rows(held: Any) -> bool:
    """Whether a value is a list of objects that are no messages of a conversation."""
    return _of_objects(held) and not {"role", "from"} & set(held[0])


def _csv(path: Path, file: BinaryIO) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    # Strict: a quote that is not closed would take all rows behind it for one field. Bytes that are not UTF-8 come
    # through as surrogates, so that the line that has them can be named.
    records = csv.reader(io.TextIOWrapper(file, "utf-8", "surrogateescape", newline=""), strict=True)
    columns: list[str] = []
    try:
        for record in records:
            where = f"line {records.line_num} of {path}"
            _require_utf8(where, "".join(record))
            if columns and record and len(record) != len(columns):
                raise InputError(
                    f"{where} does not fit the columns (fields: {len(record)}, columns: {len(columns)}); put fields "
                    "with commas, quotes or line breaks in quotes"
                )
            if columns and record:
                yield {name: field for name, field in zip(columns, record, strict=True) if name}
            columns = columns or _columns(path, record)
    except csv.Error as error:
        raise InputError(f"line {records.line_num} of {path} cannot be read ({error}); check its quotes") from error


def _columns(path: Path, names: list[str]) -> list[str]:
    """The names of a table's columns; raises InputError where one is there twice or they are not divided by commas."""
    if len(names) == 1 and (found := re.search("[;\t]", names[0])):
        by = "semicolons" if found[0] == ";" else "tabs"
        raise InputError(f"the columns of {path} are separated by {by}; write the file with commas")
    _require_once(path, [name for name in names if name], names)
    return names


def _require_once(path: Path, needed: list[str], names: list[str]) -> None:
    """Raise InputError where a column that is needed is there twice."""
    twice = next((name for name in needed if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has the column '{shown_keys([twice])}' twice; rename or remove one")


def _require_utf8(where: str, text: str) -> None:
    """Raise InputError for a text with bytes that are not UTF-8, which are surrogates in it."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            before = len(text[: error.start].encode())
            raise not_utf8(where, before + 1, ord(text[error.start]) & 0xFF) from error


def _parquet(path: Path, file: BinaryIO, keys: Collection[str] | None) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.peek(1):  # type: ignore[attr-defined]
        return
    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            needed = [name for name in dict.fromkeys(names) if keys is None or name in keys]
            _require_once(path, needed, names)
            if not needed:  # Arrow ends the process where a damaged file has rows without columns
                yield from (dict.fromkeys(names) for _ in range(table.metadata.num_rows))
                return
            for batch in table.iter_batches(1_000, columns=needed):
                columns = [column.to_pylist() for column in batch.columns]
                for number in range(batch.num_rows):
                    yield dict.fromkeys(names) | {n: c[number] for n, c in zip(needed, columns, strict=True)}
    except (pa.ArrowException, OSError, ValueError, OverflowError, LookupError) as error:  # the last three: of dates
        raise InputError(f"{path} cannot be read ({shorten(str(error), 200)}); check that it is complete") from error


def shuffled(rows: Iterable[Row], seed: int) -> Iterator[Row]:
    """The rows in the order of the datasets library's shuffle(seed); they are all held in memory."""
    import numpy as np

    held = list(rows)
    return (held[at] for at in np.random.default_rng(seed).permutation(len(held)))


def read_hub(name: str, config: str | None, split: str, streaming: bool, shuffle: int | None = None) -> Iterator[Row]:
    """The rows of a data set on the hub.

    name, config, split: as on the hub. streaming: do not download the whole data set first. shuffle: seed of the order
    of rows, None for the original order. Raises InputError if the data set cannot be loaded.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(name, config, split=split, streaming=streaming and shuffle is None)
        yield from rows if shuffle is None else rows.shuffle(seed=shuffle)
    except Exception as error:  # the exceptions differ between versions of the hub's client
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot load the dataset '{name}' ({reason}); check its name, --config and --split, or "
            "download it and give the file"
        ) from error

"""Where documents come from: a json, jsonl or jsonl.gz file, a folder of text or code, the standard library."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from dresd_milvus.corpus import stdlib
from dresd_milvus.corpus.documents import Document
from dresd_milvus.errors import InputError

STDLIB = "stdlib"
PROMPT_KEYS = ("instruction", "prompt", "question", "query")
RESPONSE_KEYS = ("output", "response", "completion", "answer", "canonical_solution", "code")


def read_documents(
    source: str, prompt_key: str | None = None, response_key: str | None = None, limit: int | None = None
) -> Iterator[Document]:
    """The documents of a source, at most `limit`, always in the same order.

    source: 'stdlib', a .json / .jsonl / .jsonl.gz file of rows with a prompt and a response key (found among the
    usual names when not given), or a folder whose text files are one document each.
    Raises InputError when the source cannot be used; a file's rows are all checked before the first is given out.
    """
    path = Path(source)
    if source == STDLIB:
        documents: Iterator[Document] = (Document(*pair) for pair in stdlib.pairs())
    elif path.is_dir():
        documents = _folder(path)
    elif path.name.endswith((".json", ".jsonl", ".json.gz", ".jsonl.gz")):
        documents = _file(path, prompt_key, response_key, limit)
    elif path.exists():
        raise InputError(
            f"{source} is not a kind of file that can be ingested; give .json, .jsonl, .jsonl.gz or a folder"
        )
    else:
        raise InputError(f"there is no source '{source}'; give a file, a folder or '{STDLIB}'")
    return islice(documents, limit)


def read_rows(path: Path, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a .json (an array) or .jsonl file, gzipped or not; raises InputError at what is not a JSON object."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            if path.name.endswith((".json", ".json.gz")):
                rows = json.load(file)
                numbered: Any = enumerate(rows if isinstance(rows, list) else [rows], 1)
            else:
                numbered = ((n, json.loads(line)) for n, line in enumerate(file, 1) if line.strip())
            for number, row in islice(numbered, limit):
                if not isinstance(row, dict):
                    raise InputError(f"row {number} of {path} is not a JSON object")
                yield row
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, EOFError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}; is it whole?") from error


def _file(path: Path, prompt_key: str | None, response_key: str | None, limit: int | None) -> Iterator[Document]:
    first = next(read_rows(path), None)
    if first is None:
        raise InputError(f"{path} has no rows")
    prompt_key = prompt_key or _usual(path, first, PROMPT_KEYS, "--prompt-key")
    response_key = response_key or _usual(path, first, RESPONSE_KEYS, "--response-key")
    for key, option in ((prompt_key, "--prompt-key"), (response_key, "--response-key")):
        _check_key(path, key, option, limit)
    return (Document(row[prompt_key], row[response_key], path.name) for row in read_rows(path, limit))


def _usual(path: Path, row: dict[str, Any], names: tuple[str, ...], option: str) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        raise InputError(f"{path} has the keys {', '.join(row)}; say with {option} which to use")
    return found


def _check_key(path: Path, key: str, option: str, limit: int | None) -> None:
    rows = missing = first = 0
    keys: list[str] = []
    for rows, row in enumerate(read_rows(path, limit), 1):
        if not isinstance(row.get(key), str):
            missing += 1
            first, keys = (rows, list(row)) if missing == 1 else (first, keys)
    if missing:
        raise InputError(
            f"{missing} of {rows} rows of {path} have no text under the key '{key}', the first of them row {first} "
            f"(its keys: {', '.join(keys)}); correct the file or give another {option}"
        )


def _folder(folder: Path) -> Iterator[Document]:
    """Every readable text file under a folder; hidden ones and binary ones are passed over."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(part.startswith(".") or part == "__pycache__" for part in parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if text.strip() and "\0" not in text:
            yield Document("", text, folder.resolve().name)

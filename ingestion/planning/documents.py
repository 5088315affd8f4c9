"""Document files: the documents of one shard, written by the plan phase and read by all later ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dresd_milvus.corpus import Document
from dresd_milvus.errors import StoreError
from dresd_milvus.files.atomic import atomic_file

DIGEST = b"digest"
"""Key of the digest in the metadata of the file."""

MAX_CHARACTERS = 200_000
"""Characters of one document. Longer ones are split, so that the memory of ingestion has a bound."""


class NumberedDocuments(NamedTuple):
    """Consecutive documents of a corpus. first: number of the first one; primary keys of rows are made from it."""

    first: int
    documents: list[Document]


def write_documents(path: Path, first: int, documents: Sequence[Document]) -> None:
    """Write a document file (Parquet) with a digest of its content, whole or not at all. first: number of the first
    document."""
    table = pa.table(
        {
            "number": pa.array(range(first, first + len(documents)), pa.int64()),
            "turns": pa.array([document.turns for document in documents], pa.list_(pa.string())),
            "origin": pa.array([document.origin for document in documents], pa.string()),
        }
    ).replace_schema_metadata({DIGEST: _digest(first, documents)})
    with atomic_file(path, single_writer=True) as file:
        pq.write_table(table, file, compression="zstd")


def read_documents(path: Path) -> NumberedDocuments:
    """Read a document file; one of an earlier version has no digest. Raises StoreError for a missing or damaged one."""
    try:
        rows = pq.read_table(path)
        turns, origins = rows.column("turns").to_pylist(), rows.column("origin").to_pylist()
        documents = [Document(tuple(turn), origin) for turn, origin in zip(turns, origins, strict=True)]
        first = int(rows.column("number")[0].as_py())
        digest = (rows.schema.metadata or {}).get(DIGEST, b"").decode(errors="replace")
    except (pa.ArrowException, OSError, KeyError, ValueError, IndexError, OverflowError) as error:
        raise StoreError(f"{path} cannot be read ({error}); give --replace to plan the run anew") from error
    if digest not in ("", _digest(first, documents)):
        raise StoreError(f"{path} is not as it was written; give --replace to plan the run anew")
    return NumberedDocuments(first, documents)


def _digest(first: int, documents: Sequence[Document]) -> str:
    content = json.dumps([first, *([*document.turns, document.origin] for document in documents)])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def split_long(document: Document) -> list[Document]:
    """Split a document whose last answer has more than MAX_CHARACTERS, at line breaks where possible.

    Only the first part keeps the turns before that answer; the others have an empty prompt.
    """
    *before, answer = document.turns
    if len(answer) <= MAX_CHARACTERS:
        return [document]
    parts: list[Document] = []
    start = 0
    while start < len(answer):
        end = start + MAX_CHARACTERS
        if end < len(answer):
            line_break = answer.rfind("\n", start + MAX_CHARACTERS // 2, end)
            end = line_break + 1 if line_break > 0 else end
        turns = (*before, answer[start:end]) if start == 0 else ("", answer[start:end])
        parts.append(Document(turns, document.origin))
        start = end
    return parts

"""Files of documents: what every worker reads its part of the corpus from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dresd_milvus.corpus import Document
from dresd_milvus.errors import StoreError
from dresd_milvus.files.atomic import atomic_file

LONGEST = 200_000
"""Characters of one document; a longer one is cut into several, so that memory stays bounded."""


class Numbered(NamedTuple):
    """Documents with the number of the first; their rows' primary keys follow from it."""

    first: int
    documents: list[Document]


def write_documents(path: Path, first: int, documents: Sequence[Document]) -> None:
    """Write a shard whole or not at all."""
    table = pa.table(
        {
            "number": pa.array(range(first, first + len(documents)), pa.int64()),
            "turns": pa.array([list(document.turns) for document in documents], pa.list_(pa.string())),
            "origin": pa.array([document.origin for document in documents], pa.string()),
        }
    )
    with atomic_file(path, single_writer=True) as file:
        pq.write_table(table, file, compression="zstd")


def read_documents(path: Path) -> Numbered:
    """Raises StoreError for a file that is missing or damaged."""
    try:
        rows = pq.read_table(path)
        turns, origins = rows.column("turns").to_pylist(), rows.column("origin").to_pylist()
        documents = [Document(tuple(turn), origin) for turn, origin in zip(turns, origins, strict=True)]
        return Numbered(int(rows.column("number")[0].as_py()), documents)
    except (pa.ArrowException, OSError, KeyError, ValueError, IndexError) as error:
        raise StoreError(f"{path} cannot be read ({error}); give --replace to plan the run anew") from error


def split_long(document: Document) -> list[Document]:
    """The document itself, or the parts of a long one, cut at line breaks where there are any.

    Only the last answer is cut: what comes before it is context, which later parts do without.
    """
    *before, answer = document.turns
    if len(answer) <= LONGEST:
        return [document]
    parts: list[Document] = []
    at = 0
    while at < len(answer):
        end = at + LONGEST
        if end < len(answer):
            found = answer.rfind("\n", at + LONGEST // 2, end)
            end = found + 1 if found > 0 else end
        turns = (*before, answer[at:end]) if at == 0 else ("", answer[at:end])
        parts.append(Document(turns, document.origin))
        at = end
    return parts


def clean(document: Document) -> Document:
    """Without what UTF-8 cannot hold: lone surrogates, which JSON lets through."""
    turns = tuple(turn.encode(errors="replace").decode() for turn in document.turns)
    return document if turns == document.turns else document._replace(turns=turns)

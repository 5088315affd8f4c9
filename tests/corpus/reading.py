"""Small corpora, written and read."""

import json
from pathlib import Path
from typing import Any

from dresd_milvus.corpus import Document, ReadOptions, Source, read_documents

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye."},
    {"role": "assistant", "content": "Farewell."},
    {"role": "user", "content": "nobody answers"},
]
"""A conversation of which the last message is left out, for it has no answer."""


def read(text: str | Path, limit: int | None = None, **how: Any) -> list[Document]:
    """The documents of a source, given as on the command line; how: see ReadOptions."""
    return list(read_documents(Source.parse(str(text)), ReadOptions(**how), limit))


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    """A JSON value a line."""
    path.write_text("\n".join(map(json.dumps, rows)))
    return path

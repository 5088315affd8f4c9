"""The plan of an ingestion: its settings, its documents, its shards, and which of them are done.

A run folder holds plan.json, the projection and one marker per shard. 'begun' is on disk before a shard's first
row goes out and 'done' after its last, so that after any interruption a shard is known to be absent (insert),
perhaps partly there (upsert), or there.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from dresd_milvus.corpus import Document, read_documents
from dresd_milvus.errors import InputError
from dresd_milvus.loading import LoadedModel

SHARD_DOCUMENTS = 128


@dataclass(frozen=True)
class Settings:
    """What decides the rows of a store and how they lie; the same settings give the same store."""

    model: str
    model_fingerprint: str
    tokenizer_hash: str
    dtype: str
    source: str
    collection: str
    uri: str
    template: str | None
    prompt_key: str | None = None
    response_key: str | None = None
    limit: int | None = None
    max_length: int = 1024
    continuation: int = 20
    dim: int = 64
    fit_tokens: int = 1_000_000
    index: str = "auto"
    vectors: str = "float32"
    partition_by: str = "none"
    partitions: int = 0

    @classmethod
    def of(cls, model: LoadedModel, **settings: Any) -> Settings:
        """The settings of an ingestion with this model; `settings` are the fields that do not speak of the model."""
        return cls(
            model=model.name,
            model_fingerprint=model.fingerprint,
            tokenizer_hash=model.tokenizer_hash,
            dtype=model.dtype,
            **settings,
        )


@dataclass
class Plan:
    """documents: how many; corpus: a hash of their text; build: marks the collection that this run creates."""

    settings: Settings
    documents: int
    skipped: int
    corpus: str
    build: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def shards(self) -> int:
        return -(-self.documents // SHARD_DOCUMENTS)


def read_corpus(settings: Settings) -> tuple[list[Document], int]:
    """(the documents that hold text, how many were passed over for holding none); InputError if none is left."""
    read = 0
    documents = []
    source = read_documents(settings.source, settings.prompt_key, settings.response_key, settings.limit)
    for document in source:
        read += 1
        if document.response.strip():
            documents.append(document)
    if not documents:
        raise InputError(f"the corpus {settings.source} is empty: {read} documents read, none of them holds text")
    return documents, read - len(documents)


def make_plan(settings: Settings, documents: list[Document], skipped: int) -> Plan:
    """A new plan for these documents."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(f"{len(document.prompt)} {len(document.response)} ".encode())
        digest.update((document.prompt + document.response).encode(errors="replace"))
    return Plan(settings, len(documents), skipped, digest.hexdigest()[:16])


class RunFolder:
    """The run folder on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        return (self.folder / "plan.json").exists()

    def load(self) -> Plan:
        """The plan that was saved; raises InputError when the folder holds something else."""
        try:
            content = json.loads((self.folder / "plan.json").read_text())
            return Plan(**{**content, "settings": Settings(**content["settings"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{self.folder} is not a run folder of this version; give another --run-dir") from error

    def save(self, plan: Plan) -> None:
        write_durably(self.folder / "plan.json", json.dumps(asdict(plan), indent=2) + "\n")

    def require_same(self, old: Plan, new: Plan) -> None:
        """Raise InputError, naming what differs, when a run would be resumed with other settings or another corpus."""
        before, now = asdict(old.settings), asdict(new.settings)
        differs = [f"{name} was {before[name]!r} and is {now[name]!r}" for name in now if before[name] != now[name]]
        if old.corpus != new.corpus and not differs:
            differs.append("the corpus has changed")
        if differs:
            raise InputError(
                f"the run in {self.folder} was begun with other settings: {'; '.join(differs)}; "
                "use those, give --replace to start over, or another --collection"
            )

    def begun(self, shard: int) -> bool:
        return self._marker(shard, "begun").exists()

    def done(self, shard: int) -> bool:
        return self._marker(shard, "done").exists()

    def mark(self, shard: int, state: str, **content: int) -> None:
        write_durably(self._marker(shard, state), json.dumps(content) + "\n")

    def rows_done(self) -> int:
        """The rows of all shards that are done."""
        return sum(json.loads(path.read_text())["rows"] for path in self.folder.glob("shards/*.done"))

    def forget_shards(self) -> None:
        """Remove all markers: the collection they speak of is gone."""
        for path in self.folder.glob("shards/*"):
            path.unlink()

    def _marker(self, shard: int, state: str) -> Path:
        return self.folder / "shards" / f"{shard:06d}.{state}"


def shard_documents(documents: list[Document], shard: int) -> list[Document]:
    """The documents of one shard; document numbers count from shard * SHARD_DOCUMENTS."""
    return list(islice(documents, shard * SHARD_DOCUMENTS, (shard + 1) * SHARD_DOCUMENTS))


def write_durably(path: Path, text: str) -> None:
    """Write a file whole or not at all, and have it on the disk before returning."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""A small corpus and what the sample model makes of it."""

import json
from pathlib import Path

from dresd_milvus.console import Phases
from dresd_milvus.corpus import stdlib
from dresd_milvus.loading import LoadedModel
from dresd_milvus.store import Manifest
from ingestion.plan import Settings
from ingestion.runner import ingest

TEMPLATE = "Question: {instruction}\nAnswer:\n"


def write_corpus(path: Path, documents: int, **change: str) -> Path:
    """Some short functions of the standard library as a jsonl file; `change` renames its keys."""
    pairs = (pair for pair in stdlib.pairs() if len(pair.response) < 400)
    with path.open("w") as file:
        for pair, _ in zip(pairs, range(documents), strict=False):
            row = {change.get("prompt", "instruction"): pair.prompt, change.get("response", "output"): pair.response}
            file.write(json.dumps(row) + "\n")
    return path


def settings(model: LoadedModel, source: Path | str, uri: Path | str, **other: object) -> Settings:
    """Settings for a small store."""
    fields = {"collection": "code", "template": TEMPLATE, "dim": 16, **other}
    return Settings.of(model, source=str(source), uri=str(uri), **fields)


def build(model: LoadedModel, source: Path | str, uri: Path, **other: object) -> Manifest:
    """Ingest, with the run folder beside the database."""
    with Phases() as phases:
        return ingest(model, settings(model, source, uri, **other), uri.with_suffix(".run"), phases)

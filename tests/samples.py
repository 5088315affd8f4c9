"""A small corpus and what the sample model makes of it."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dresd_milvus.console import Phases
from dresd_milvus.corpus import stdlib
from dresd_milvus.models.checkpoint import SAMPLE, SAMPLE_FOLDER
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.retrieval.store import Manifest
from ingestion.options import Settings
from ingestion.runner import ingest

TEMPLATE = "Question: {instruction}\nAnswer:\n"

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_chat_model(folder: Path, template: str = CHATML) -> Path:
    """The sample model with a chat template."""
    shutil.copytree(SAMPLE_FOLDER, folder, ignore=shutil.ignore_patterns("draft"))
    about = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**about, "chat_template": template}))
    return folder


def write_corpus(path: Path, documents: int, **change: str) -> Path:
    """Some short functions of the standard library as a jsonl file; `change` renames its keys."""
    pairs = (pair for pair in stdlib.pairs() if len(pair.response) < 400)
    with path.open("w") as file:
        for pair, _ in zip(pairs, range(documents), strict=False):
            row = {change.get("prompt", "instruction"): pair.prompt, change.get("response", "output"): pair.response}
            file.write(json.dumps(row) + "\n")
    return path


def settings(source: Path | str | Sequence[str], uri: Path | str, **other: Any) -> Settings:
    """Settings for a small store."""
    fields = {"collection": "code", "template": TEMPLATE, "dim": 16, **other}
    sources = (source,) if isinstance(source, str | Path) else source
    return Settings(sources=[*map(str, sources)], uri=str(uri), model=SAMPLE, **fields)


def build(
    model: LoadedModel, source: Path | str | Sequence[str], uri: Path, replace_old: bool = False, **other: Any
) -> Manifest:
    """Ingest, with the run folder beside the database."""
    with Phases() as phases:
        folder = uri.with_suffix(".run")
        manifest = ingest(settings(source, uri, **other), folder, phases, model=model, replace_old=replace_old)
    assert manifest is not None
    return manifest

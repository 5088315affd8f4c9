"""Texts of a real vLLM engine with drafts are its texts without them."""

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from dresd_milvus.models.checkpoint import SAMPLE, SAMPLE_FOLDER
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.serving.launch import identify
from dresd_milvus.serving.settings import ServeSettings
from tests.samples import build, write_corpus
from tests.serving.engine import BATCHES, CONTEXT, TOKENS

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-vllm/bin/python"
DOCUMENTS, CORPORA = 60, ("first", "second")
XARGS = (
    {"dresd_corpus": "first"},
    {"dresd_corpus": "second"},
    {},
    {"dresd_corpus": "unknown"},
    {"dresd_draft_tokens": 0},
)

pytestmark = [
    pytest.mark.skipif(not PYTHON.exists(), reason="vLLM's environment is missing; make vllm"),
    pytest.mark.timeout(600),
]


def run(prompts: Path, out: Path, draft_tokens: int, environment: dict[str, str]) -> dict:
    command = [PYTHON, ROOT / "tests/serving/engine.py", SAMPLE_FOLDER, str(draft_tokens), prompts, out]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


def test_greedy_texts_are_those_of_the_engine_alone(sample: LoadedModel, tmp_path: Path) -> None:
    """In batches of 1, 4 and 16, with prompts read in chunks, up to the end of the context; of two corpora, each with
    half of the documents, and of requests that turn drafts off or name a corpus that is not there."""
    corpus = write_corpus(tmp_path / "corpus.jsonl", DOCUMENTS)
    lines = corpus.read_text().splitlines(keepends=True)
    halves = [tmp_path / f"{name}.jsonl" for name in CORPORA]
    for number, half in enumerate(halves):
        half.write_text("".join(lines[number::2]))
    build(sample, tuple(f"{half.stem}={half}" for half in halves), tmp_path / "a.db", also="rest")
    rows = [json.loads(line) for line in lines]
    texts = [f"Question: {row['instruction']}\nAnswer:\n{row['output']}" for row in rows[::3]]
    ids = [sample.tokenizer(text).input_ids[: CONTEXT - 4] for text in texts]
    prompts = tmp_path / "prompts.json"
    asked = [of_text[: len(of_text) * (2 + at % 3) // 4] for at, of_text in enumerate(ids)]
    said = [{"ids": part, "xargs": XARGS[at % len(XARGS)]} for at, part in enumerate(asked)]
    prompts.write_text(json.dumps(said))
    _, fingerprint, tokenizer = identify(SAMPLE)
    settings = ServeSettings(SAMPLE, fingerprint, tokenizer, str(tmp_path / "a.db"), "code", corpora=CORPORA)
    plain = run(prompts, tmp_path / "plain.json", 0, {})
    drafted = run(prompts, tmp_path / "drafted.json", 6, settings.to_environment())
    assert drafted["texts"] == plain["texts"] and set(plain["texts"]) == {str(batch) for batch in BATCHES}
    assert any(len(text) == TOKENS for text in plain["texts"]["1"])
    assert drafted["lost"] == 0 and drafted["accepted"] > len(texts) * len(BATCHES)
    assert drafted["kept"] <= max(BATCHES)
    sources = Counter(drafted["sources"])
    for corpus in CORPORA:
        assert sources[f"accepted dense {corpus}"] + sources[f"accepted corpus {corpus}"] > 0
    assert not [name for name in sources if name.endswith("unknown") and " text " not in name]
    assert sources["accepted dense None"] + sources["accepted corpus None"] > 0

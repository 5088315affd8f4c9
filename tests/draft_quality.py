"""The guard of draft quality: a recording of SmolLM2, and what every system drafts of it.

    python -m tests.draft_quality            # keep the figures of the code as it is, when a change is meant
    python -m tests.draft_quality --record   # have the model write and read the texts anew first (minutes)

The recording has GSM8K's questions (evaluation/suites/LICENSES.md) with the model's own sampled answers: of the first
STORED a store is made, the others are forced. States are kept projected, 64 numbers each, which here are all of the
state; so the real projection is left out of it (tests/retrieval/test_projection.py has that), all else is the product's
code.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from dresd_milvus.console import Phases
from dresd_milvus.corpus import Document, Template, encode_documents
from dresd_milvus.corpus.chat import chat_template
from dresd_milvus.corpus.rows import read_rows
from dresd_milvus.files.atomic import write_json
from dresd_milvus.models.loading import load_model
from dresd_milvus.retrieval.projection import Projection, ProjectionFit
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.store import POSITION_BITS, Manifest, Rows
from dresd_milvus.retrieval.suffix_store import SuffixStore
from dresd_milvus.storage.opening import Retrieval
from dresd_milvus.systems.registry import Sources, make_drafter
from evaluation.offline.intrinsic import Shape, force
from evaluation.offline.replay import (
    Recorded,
    Recording,
    about_recording,
    load_recording,
    read_text,
    recorded_says,
    save_recording,
)
from evaluation.prompts import SUITES, Prompt, load_suite
from evaluation.running.harness import Options
from ingestion.phases.embed import continuations
from ingestion.phases.generate import AnswerSampling, generate_shard
from ingestion.planning.documents import NumberedDocuments

FOLDER = Path(__file__).parent / "data" / "draft_quality"
FIGURES = FOLDER / "figures.json"
SYSTEMS = (
    *("prompt_lookup", "rest", "suffix", "dense"),
    *("hybrid-dense", "hybrid-suffix", "hybrid-recycling", "hybrid-dense-recycling", "hybrid"),
)
STORED, HELD, TOKENS = 30, 12, 96
DIM, CONTINUATION = 64, 20
SHAPES = (Shape(8, 8), Shape(32, 8))

Figures = dict[str, dict[str, float]]
"""{system: {draft nodes: accepted length}}."""


def measure(recording: Recording, folder: Path) -> Figures:
    """The accepted length of every system on the texts that are held out of the store, which is made in a folder."""
    sources = store_of(recording, folder)
    drafters = [make_drafter(name, sources) for name in SYSTEMS]
    listen = recorded_says(recording.about["vocab_size"])
    found = force(recording.texts[STORED:], listen, drafters, SHAPES, positions=10**6)
    return {
        name: {str(shape.nodes): round(tally.summary()["accepted_length"], 4) for shape, tally in by.items()}
        for name, by in found.items()
    }


def store_of(recording: Recording, folder: Path) -> Sources:
    """A store of the answers of the first texts, without a database: their states are the keys."""
    projection = Projection(torch.eye(DIM), torch.zeros(DIM), torch.full((DIM,), 1 / DIM), samples=0)
    about, rows = recording.about, [_rows(number, text) for number, text in enumerate(recording.texts[:STORED])]
    manifest = Manifest(
        about["model"], about["fingerprint"], about["tokenizer"], projection.fingerprint, DIM, CONTINUATION, None,
        "recording", rows=sum(map(len, rows)),
    )  # fmt: skip
    replica = Replica.build(manifest, iter(rows), folder / "replica")
    texts = (np.array(text.ids, np.int32) for text in recording.texts[:STORED])
    suffixes = SuffixStore.build(folder / "suffixes", texts, tokenizer=about["tokenizer"])
    return Sources(Retrieval(replica, projection, "replica"), suffixes)


def _rows(number: int, text: Recorded) -> Rows:
    following = continuations(np.array(text.ids, np.int32), CONTINUATION)[text.start - 2 :]
    keys = torch.nn.functional.normalize(text.states[: len(following)].float(), dim=-1).numpy()
    return Rows((number << POSITION_BITS) + np.arange(len(following)), keys, following)


def make_recording(name: str) -> None:
    """Have a model write the texts, and keep what it said of them, with projected states."""
    questions = [row["question"] for row in read_rows(SUITES["gsm8k"].with_name("gsm8k-stored.jsonl"), STORED)]
    questions += [prompt.text for prompt in load_suite("gsm8k-extract", HELD).prompts]
    with Phases() as phases:
        phases.phase(f"loading the model {name}", None, "")
        model = load_model(name, "float32", "cpu")
        put = Template(chat_template(model.tokenizer))
        asked = NumberedDocuments(0, [Document((put(question), ""), "") for question in questions])
        phases.phase("answering", TOKENS * len(questions), "tokens")
        written = generate_shard(model, asked, AnswerSampling(0.7, 0.95, TOKENS, seed=0), phases.advance)
        phases.phase("reading", len(questions), "texts")
        texts = []
        for number, encoded in enumerate(encode_documents(model.tokenizer, written)):
            ids, start = encoded.ids[:-1].tolist(), int(np.argmax(encoded.answered))  # most were cut, not ended
            texts.append(read_text(model.target, Prompt(str(number), ("",)), ids, start, False))
            phases.advance(1)
    fit = ProjectionFit(model.target.hidden_size)
    for text in texts[:STORED]:
        fit.add(text.states.float())
    projection = fit.result(DIM)
    small = [text._replace(states=projection(text.states).half(), log_likely=text.log_likely.half()) for text in texts]
    about = {**about_recording(model, Options(TOKENS, 0.7, 0.95)), "model": "SmolLM2-135M-Instruct", "hidden_size": DIM}
    save_recording(Recording(about, {}, small), FOLDER)  # without step costs: nothing is timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="make the recording anew")
    parser.add_argument("--model", default="smollm2", help="what writes it")
    options = parser.parse_args()
    if options.record:
        make_recording(options.model)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(load_recording(FOLDER), Path(folder))
    write_json(FIGURES, figures)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

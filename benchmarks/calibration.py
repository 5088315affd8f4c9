"""Makes the prior of the mixer: what `hybrid` believes about its evidence before it has seen any text.

On: the sample model and functions of the standard library, without those held out for evaluation, in two parts. Texts
of one part are drafted from a store of the other: people's code (OOD), and the model's own sampled answers (ID), in
turns.
Run: python benchmarks/calibration.py
Writes: the prior of the package (`PRIOR`), which is what the mixer has learned in the end. Prints: MAT of every system
in the last round, as JSON.
"""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments
from stores import answers, build, encode

from dresd_milvus.corpus import stdlib
from dresd_milvus.decoding.loop import FixedBudget
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.hybrid import PRIOR, Hybrid
from dresd_milvus.drafters.hybrid.dense_sources import BackgroundSearch, DenseSource
from dresd_milvus.drafters.hybrid.mixer import Mixer
from dresd_milvus.models.loading import load_model
from dresd_milvus.systems.factory import make_drafter
from dresd_milvus.systems.sources import Sources
from evaluation.offline.replay import Recorded, Recording, read_text, recorded_model, replay
from evaluation.prompts import Prompt

ANSWER = 128
"""Tokens of an answer of the model, at most."""

BACKGROUND = "hybrid on a server"
"""`hybrid` with hits that come one step late, as those of a server do."""

SYSTEMS = (
    "hybrid",
    BACKGROUND,
    "hybrid-no-dense",
    "hybrid-no-recycling",
    "hybrid-no-dense-no-recycling",
    "hybrid-no-suffix",
)
"""All systems that learn: the mixer has weights of its own for every set of sources."""


def main() -> None:
    options = arguments(__doc__ or "", stored=4000, texts=300, answered=900, rounds=4, nodes=24, depth=16)
    model = load_model("sample", "auto", "cpu")
    pairs = [(pair.prompt, pair.response) for pair in stdlib.pairs()]
    order = np.random.default_rng(0).permutation(len(pairs))
    encoded = encode(model, [pairs[n] for n in order])
    written = answers(
        model.target, [e.ids[: int(e.answered.argmax())].tolist() for e in encoded[: options.answered]], ANSWER, seed=1
    )
    written = [written[n] for n in np.random.default_rng(1).permutation(len(written))]
    third = len(written) // 3
    mixer, mats = Mixer.untaught(), {}
    with tempfile.TemporaryDirectory() as folder:
        stores = {}
        for kind, stored, texts in (
            ("ood", encoded[options.texts :][: options.stored], encoded[: options.texts]),
            ("id", written[third:], written[:third]),
        ):
            sources = build(model, stored, Path(folder) / kind)
            starts = [max(int(text.answered.argmax()), 2) for text in texts]
            recorded = [
                read_text(model.target, Prompt(str(n), ("",), kind), text.ids.tolist(), start, False)
                for n, (text, start) in enumerate(zip(texts, starts, strict=True)) if len(text.ids) > start
            ]  # fmt: skip
            stores[kind] = (sources, recorded)
        for round in range(options.rounds):
            for kind, (sources, recorded) in stores.items():
                mats[kind] = {}
                for name in SYSTEMS:
                    drafter = drafter_of(name, sources, mixer)
                    part = recorded[round :: options.rounds]
                    mats[kind][name] = mat(model, part, drafter, FixedBudget(options.nodes, options.depth))
    mixer.save(PRIOR)
    print(json.dumps({"MAT in the last round": mats, "written": str(PRIOR), "bytes": PRIOR.stat().st_size}, indent=2))


class Immediately(Executor):
    """An executor that runs every task when it is submitted, so that background search is deterministic."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def drafter_of(name: str, sources: Sources, mixer: Mixer) -> Hybrid:
    """The system of this name with this mixer, so that what it learns stays in the mixer."""
    drafter = make_drafter("hybrid" if name == BACKGROUND else name, sources)
    assert isinstance(drafter, Hybrid)
    parts = drafter.batch.sources
    if name == BACKGROUND:
        parts = tuple(
            BackgroundSearch(part.dense, Immediately()) if isinstance(part, DenseSource) else part for part in parts
        )
    return Hybrid(parts, drafter.batch.recycling, name, mixer)


def mat(model, texts: list[Recorded], drafter: Hybrid, budget: FixedBudget) -> float:  # type: ignore[no-untyped-def]
    """MAT of a drafter over recorded texts, which are decoded again."""
    about = {
        "model": model.name, "fingerprint": model.fingerprint, "tokenizer": model.tokenizer_hash,
        "vocab_size": model.target.vocab_size, "hidden_size": model.target.hidden_size, "max_new_tokens": 10**6,
    }  # fmt: skip
    recording = Recording(about, {0: 1.0, 64: 1.0}, texts)
    records = replay(recording, recorded_model(recording), [Vanilla(), drafter], budget)
    ours = [record for record in records if record["system"] == drafter.name]
    return sum(record["new_tokens"] for record in ours) / sum(len(record["accept_lengths"]) for record in ours)


if __name__ == "__main__":
    main()

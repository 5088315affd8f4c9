"""What `hybrid` believes before it has seen anything of a session: made of replays with the sample model.

The standard library's functions, those held back for evaluation left out, are split in two. Texts of one part are
decoded with a store of the other (people's code, OOD), and the model's sampled answers to prompts of one part with a
store of its answers to prompts of the other (ID), in turns. What the mixer has learned then is the prior.
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
from dresd_milvus.systems.registry import Sources, make_drafter
from evaluation.offline.replay import Recorded, Recording, read_text, recorded_model, replay
from evaluation.prompts import Prompt

ANSWER = 128

BACKGROUND = "hybrid on a server"
"""The composite as it is on a server, whose hits come a step late."""

PARTS = ("hybrid", BACKGROUND, "hybrid-dense", "hybrid-recycling", "hybrid-dense-recycling", "hybrid-suffix")
"""Ablations learn too: a set of sources has weights of its own."""


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
    mixer, found = Mixer.untaught(), {}
    with tempfile.TemporaryDirectory() as folder:
        kinds = {}
        for kind, stored, texts in (
            ("ood", encoded[options.texts :][: options.stored], encoded[: options.texts]),
            ("id", written[third:], written[:third]),
        ):
            sources = build(model, stored, Path(folder) / kind)
            starts = [max(int(text.answered.argmax()), 2) for text in texts]
            asked = [
                read_text(model.target, Prompt(str(n), ("",), kind), text.ids.tolist(), start, False)
                for n, (text, start) in enumerate(zip(texts, starts, strict=True)) if len(text.ids) > start
            ]  # fmt: skip
            kinds[kind] = (sources, asked)
        for round in range(options.rounds):
            for kind, (sources, asked) in kinds.items():
                found[kind] = {}
                for name in PARTS:
                    drafter = drafter_of(name, sources, mixer)
                    part = asked[round :: options.rounds]
                    found[kind][name] = mat(model, part, drafter, FixedBudget(options.nodes, options.depth))
    mixer.save(PRIOR)
    print(json.dumps({"MAT in the last round": found, "written": str(PRIOR), "bytes": PRIOR.stat().st_size}, indent=2))


class Immediately(Executor):
    """Does everything at once."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def drafter_of(name: str, sources: Sources, mixer: Mixer) -> Hybrid:
    """A composite that learns by this mixer."""
    drafter = make_drafter("hybrid" if name == BACKGROUND else name, sources)
    assert isinstance(drafter, Hybrid)
    parts = drafter.batch.sources
    if name == BACKGROUND:
        parts = tuple(
            BackgroundSearch(part.dense, Immediately()) if isinstance(part, DenseSource) else part for part in parts
        )
    return Hybrid(parts, drafter.batch.recycling, name, mixer)


def mat(model, texts: list[Recorded], drafter: Hybrid, budget: FixedBudget) -> float:  # type: ignore[no-untyped-def]
    """Decode the texts again."""
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

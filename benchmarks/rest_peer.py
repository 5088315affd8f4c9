"""Measures `rest` against REST's own datastore package (draftretriever), through the same loop and verifier.

On: the sample model, functions of the standard library. Both are built from the same tokens and asked about the same
texts with the same node budget. The package keeps 16 bits of a token id, ignores where documents end, and ends the
process when it is asked for a single token (REST itself matches 2 to 16). So it is asked for the match that our store
has just found: both draft from the same matches.
Needs: pip install draftretriever==0.1.1
Run: python benchmarks/rest_peer.py
Prints: JSON with accepted length under teacher forcing on held-out answers, MAT when the model generates, draft time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, report
from published import RestPackage

from dresd_milvus.corpus import Document, Template, encode_documents, encode_prompt, stdlib
from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.decoding.sampling import make_sampler
from dresd_milvus.drafters.rest import Rest
from dresd_milvus.models.loading import LoadedModel, load_model
from dresd_milvus.retrieval.suffix_store import SuffixStore
from evaluation.offline.intrinsic import Shape, Text, encode_texts, force, listener


def main() -> None:
    options = arguments(__doc__ or "", documents=800, texts=60, prompts=20, positions=3000)
    model = load_model("sample", "auto", "cpu")
    template = Template()
    pairs = [pair for pair, _ in zip(stdlib.pairs(), range(options.documents), strict=False)]
    encoded = encode_documents(model.tokenizer, [Document((template(p.prompt), p.response), "") for p in pairs])
    held_out = list(stdlib.pairs(held_back=True))[::7]
    texts = encode_texts(
        model, ((encode_prompt(model.tokenizer, template, p.prompt), p.response) for p in held_out), options.texts
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        store = SuffixStore.build(Path(folder) / "suffixes", (e.ids for e in encoded))
        try:
            package = RestPackage(store, [each.ids for each in encoded], model.target.vocab_size, Path(folder))
        except ModuleNotFoundError:
            sys.exit("error: the package draftretriever is not installed; pip install draftretriever==0.1.1")
        two = Rest(store, min_match=2)
        two.name = "rest, 2 tokens at least"
        drafters: list[Drafter] = [Rest(store), two, package]
        figures: dict[str, Any] = {"tokens in the store": len(store)}
        shapes = [Shape(16, 10), Shape(64, 10)]
        forced = force(texts, listener(model, head=False), drafters, shapes, options.positions)
        figures["accepted length, teacher-forced"] = {
            f"{name} @{shape.nodes}": tally.summary() for name, by in forced.items() for shape, tally in by.items()
        }
        for how, temperature in (("greedy", 0.0), ("sampled t=0.7 p=0.95", 0.7)):
            for nodes in (16, 64):
                figures[f"{how} @{nodes}"] = {
                    d.name: generated(model, d, texts[: options.prompts], nodes, temperature) for d in drafters
                }
    report(figures, model, options)


def generated(model: LoadedModel, drafter: Drafter, texts: list[Text], nodes: int, temperature: float) -> Any:
    """MAT and median milliseconds of a draft, over answers of 128 tokens to these prompts."""
    tokens, steps, times = 0, 0, list[float]()
    for index, text in enumerate(texts):
        sampler = make_sampler(temperature, 0.95, index)
        generation = generate(model.target, drafter, sampler, text.ids[: text.start], 128, FixedBudget(nodes, 10))
        tokens, steps = tokens + len(generation.tokens), steps + len(generation.steps)
        times += [1e3 * step.draft for step in generation.steps]
    return {"mat": round(tokens / steps, 3), "draft ms p50": round(float(np.median(times)), 3)}


if __name__ == "__main__":
    main()

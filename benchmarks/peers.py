"""Measures all alternatives against each other: tokens a second over plain decoding's, with 95 % intervals.

On: the sample model, the same prompts and the same store for all, in one run; whole calls are timed, with prefill. The
alternatives: our systems; plain, prompt lookup and assisted decoding of transformers; DReSD's loop; dense retrieval
through ScaNN and FAISS; REST's package; SuffixDecoding's core. Those whose package is not installed are left out
(draftretriever, scann, faiss-cpu). --core FOLDER has the compiled core of SuffixDecoding (_C of ArcticInference's
csrc/suffix_decoding, built with nanobind and CMake). --systems a,b measures only some, by name.
Run: PYTHONPATH=. python benchmarks/peers.py
Prints: JSON and a table, whose last column is hybrid over each alternative, prompts resampled together.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from common import answer, arguments, prompts, report
from published import Oversampled, RestPackage, SuffixDecoding, dresd_loop, faiss_search, scann_search
from stores import answers, build, encode

from dresd_milvus.corpus import Encoded, stdlib
from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.models.loading import LoadedModel, load_model
from dresd_milvus.systems.registry import Sources, load_draft_model, make_drafter, step_costs
from evaluation.reporting.bootstrap import interval

OURS = ("prompt_lookup", "rest", "dense", "suffix", "hybrid-dense", "hybrid")
Side = Callable[[Sequence[int], int], int]
"""An alternative: (prompt as token ids, its number) -> number of tokens that it wrote."""


def main() -> None:
    options = arguments(
        __doc__ or "", store="ood", stored=4000, prompts=24, tokens=128, temperature=0.0, core="", repeats=2, systems=""
    )
    model = load_model("sample", "auto", "cpu")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        texts = corpus(model, options.store, options.stored)
        sources = build(model, texts, Path(folder))
        sides, steps = make_sides(model, sources, texts, options, Path(folder))
        wanted = {"vanilla", "hybrid", *options.systems.split(",")}
        sides = {name: side for name, side in sides.items() if name in wanted or not options.systems}
        prompt_ids = prompts(model, options.prompts)
        for side in sides.values():
            side(prompt_ids[0], 0)
        steps.clear()
        measured = measure(sides, prompt_ids, options.repeats)
    plain, whole = measured["vanilla"], measured["hybrid"]
    results: dict[str, Any] = {"rows": len(sources.retrieval.store)}  # type: ignore[union-attr, arg-type]
    for name, (tokens, seconds) in measured.items():
        row = {"tokens_per_second": float(tokens.sum() / seconds.sum()), **speed_up((tokens, seconds), plain)}
        row["hybrid"] = speed_up(whole, (tokens, seconds))
        if name in steps:
            row["MAT"] = sum(t for t, _ in steps[name]) / sum(s for _, s in steps[name])
        results[name] = row
    report(results, model, options)
    print("\n| system | MAT | tokens/s | over vanilla [95 %] | hybrid over it [95 %] |\n|---|---|---|---|---|")
    for name, row in list(results.items())[1:]:
        mat = f"{row['MAT']:.2f}" if "MAT" in row else ""
        ratios = " | ".join(map(shown, (row, row["hybrid"])))
        print(f"| {name} | {mat} | {row['tokens_per_second']:.0f} | {ratios} |")


def shown(ratio: dict[str, Any]) -> str:
    low, high = ratio["interval"]
    return f"{ratio['ratio']:.2f}x [{low:.2f}, {high:.2f}]"


def corpus(model: LoadedModel, kind: str, documents: int) -> list[Encoded]:
    """The texts of a store. kind: 'ood' for people's functions, 'id' for the model's answers to their prompts."""
    pairs = [(pair.prompt, pair.response) for pair in stdlib.pairs()]
    order = np.random.default_rng(5).permutation(len(pairs))[:documents]
    encoded = encode(model, [pairs[n] for n in order])
    if kind == "ood":
        return encoded
    prompt_ids = [text.ids[: int(text.answered.argmax())].tolist() for text in encoded]
    return answers(model.target, prompt_ids, 128, seed=5)


def make_sides(
    model: LoadedModel, sources: Sources, texts: Sequence[Encoded], options: Any, folder: Path
) -> tuple[dict[str, Side], dict[str, list[tuple[int, int]]]]:
    """(alternatives by name, {name: [(tokens, steps) of every text]}, filled while those that use our loop run)."""
    target, costs = model.target, step_costs(model)
    steps: dict[str, list[tuple[int, int]]] = {}

    def ours(drafter: Drafter, name: str, budget: str) -> Side:
        def write(ids: Sequence[int], number: int) -> int:
            generation = answer(model, drafter, budget, ids, number, options.temperature, options.tokens)
            steps.setdefault(name, []).append((len(generation.tokens), len(generation.steps)))
            return len(generation.tokens)

        return write

    sampling = {"do_sample": True, "temperature": options.temperature, "top_p": 0.95, "top_k": 0}
    how = sampling if options.temperature else {"do_sample": False}

    def theirs(**keywords: Any) -> Side:
        def write(ids: Sequence[int], number: int) -> int:
            torch.manual_seed(number)
            inputs = torch.tensor([list(ids)])
            mask = torch.ones_like(inputs)
            out = target.model.generate(
                inputs, attention_mask=mask, max_new_tokens=options.tokens, pad_token_id=0, **how, **keywords
            )
            return out.shape[1] - len(ids)

        return write

    sides = {"vanilla": ours(make_drafter("vanilla", sources), "vanilla", "vanilla")}
    for name in OURS:
        sides[name] = ours(make_drafter(name, sources, costs=costs), name, name)
    sides["transformers generate"] = theirs()
    sides["transformers prompt lookup"] = theirs(prompt_lookup_num_tokens=10)
    sides["transformers assisted"] = theirs(assistant_model=load_draft_model(None, model).model)
    assert sources.retrieval is not None and sources.suffixes is not None
    replica, projection = sources.retrieval.store, sources.retrieval.projection
    if not options.temperature:
        dense = Dense(replica, projection)
        sides["DReSD's loop"] = lambda ids, number: len(dresd_loop(target, dense, ids, options.tokens))
    for name, search in (("dense by ScaNN", scann_search), ("dense by FAISS HNSW", faiss_search)):
        with suppress(ModuleNotFoundError):
            oversampled = Oversampled(replica, search(replica))  # type: ignore[arg-type]
            sides[name] = ours(Dense(oversampled, projection), name, "dense")
    ids = [text.ids for text in texts]
    with suppress(ModuleNotFoundError):
        package = RestPackage(sources.suffixes, ids, target.vocab_size, folder)
        sides[package.name] = ours(package, package.name, "rest")
    if options.core:
        sys.path.insert(0, options.core)
        core = SuffixDecoding(importlib.import_module("_C"), ids)
        sides[core.name] = ours(core, core.name, "suffix")
    return sides, steps


def measure(sides: dict[str, Side], prompt_ids: Sequence[Sequence[int]], repeats: int) -> dict[str, Any]:
    """(tokens [P], seconds [P]) of every alternative: medians of the repeats. All take turns at every prompt."""
    names = list(sides)
    tokens = {name: np.zeros((repeats, len(prompt_ids))) for name in names}
    seconds = {name: np.zeros((repeats, len(prompt_ids))) for name in names}
    for repeat in range(repeats):
        for number, ids in enumerate(prompt_ids):
            turn = (number + repeat) % len(names)
            for name in names[turn:] + names[:turn]:
                begun = perf_counter()
                tokens[name][repeat, number] = sides[name](ids, number)
                seconds[name][repeat, number] = perf_counter() - begun
    return {name: (np.median(tokens[name], 0), np.median(seconds[name], 0)) for name in names}


def speed_up(ours: tuple[Any, Any], plain: tuple[Any, Any]) -> dict[str, Any]:
    """Ratio of tokens a second over all prompts, with a 95 % interval that resamples prompts."""

    def ratio(tokens: Any, seconds: Any, plain_tokens: Any, plain_seconds: Any) -> Any:
        return (tokens.sum(-1) / seconds.sum(-1)) / (plain_tokens.sum(-1) / plain_seconds.sum(-1))

    return {"ratio": float(ratio(*ours, *plain)), "interval": interval(ratio, *ours, *plain)}


if __name__ == "__main__":
    main()

"""Every alternative against ours: the same model, prompts and store in one run; tokens a second of whole calls, prefill
included, over plain decoding's, with a 95 % interval over prompts.

The last column sets hybrid against each of them, prompts resampled together. --systems takes some of them only, by
name.

What is not installed is left out: draftretriever (REST), scann, faiss-cpu; --core FOLDER is where the compiled core of
SuffixDecoding lies (_C of ArcticInference's csrc/suffix_decoding, built with nanobind and CMake).
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
from dresd_milvus.systems.factory import make_drafter, step_costs
from dresd_milvus.systems.sources import Sources, load_draft_model
from evaluation.reporting.bootstrap import interval

OURS = ("prompt_lookup", "rest", "dense", "suffix", "hybrid-no-dense", "hybrid")
Side = Callable[[Sequence[int], int], int]
"""(prompt, its number) -> how many tokens it wrote."""


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
        asked = prompts(model, options.prompts)
        for side in sides.values():
            side(asked[0], 0)
        steps.clear()
        found = measure(sides, asked, options.repeats)
    plain, whole = found["vanilla"], found["hybrid"]
    results: dict[str, Any] = {"rows": len(sources.retrieval.store)}  # type: ignore[union-attr, arg-type]
    for name, (tokens, seconds) in found.items():
        made = {"tokens_per_second": float(tokens.sum() / seconds.sum()), **speed_up((tokens, seconds), plain)}
        made["hybrid"] = speed_up(whole, (tokens, seconds))
        if name in steps:
            made["MAT"] = sum(t for t, _ in steps[name]) / sum(s for _, s in steps[name])
        results[name] = made
    report(results, model, options)
    print("\n| system | MAT | tokens/s | over vanilla [95 %] | hybrid over it [95 %] |\n|---|---|---|---|---|")
    for name, made in list(results.items())[1:]:
        mat = f"{made['MAT']:.2f}" if "MAT" in made else ""
        ratios = " | ".join(map(shown, (made, made["hybrid"])))
        print(f"| {name} | {mat} | {made['tokens_per_second']:.0f} | {ratios} |")


def shown(ratio: dict[str, Any]) -> str:
    low, high = ratio["interval"]
    return f"{ratio['ratio']:.2f}x [{low:.2f}, {high:.2f}]"


def corpus(model: LoadedModel, kind: str, documents: int) -> list[Encoded]:
    """The texts of a store: people's functions, or the model's own answers to their prompts."""
    pairs = [(pair.prompt, pair.response) for pair in stdlib.pairs()]
    order = np.random.default_rng(5).permutation(len(pairs))[:documents]
    encoded = encode(model, [pairs[n] for n in order])
    if kind == "ood":
        return encoded
    asked = [text.ids[: int(text.answered.argmax())].tolist() for text in encoded]
    return answers(model.target, asked, 128, seed=5)


def make_sides(
    model: LoadedModel, sources: Sources, texts: Sequence[Encoded], options: Any, folder: Path
) -> tuple[dict[str, Side], dict[str, list[tuple[int, int]]]]:
    """What is compared, and per system of ours a list that fills with (tokens, steps) of every text."""
    target, costs = model.target, step_costs(model)
    steps: dict[str, list[tuple[int, int]]] = {}

    def ours(drafter: Drafter, name: str, budget: str) -> Side:
        def write(ids: Sequence[int], number: int) -> int:
            done = answer(model, drafter, budget, ids, number, options.temperature, options.tokens)
            steps.setdefault(name, []).append((len(done.tokens), len(done.steps)))
            return len(done.tokens)

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
            found = Oversampled(replica, search(replica))  # type: ignore[arg-type]
            sides[name] = ours(Dense(found, projection), name, "dense")
    ids = [text.ids for text in texts]
    with suppress(ModuleNotFoundError):
        package = RestPackage(sources.suffixes, ids, target.vocab_size, folder)
        sides[package.name] = ours(package, package.name, "rest")
    if options.core:
        sys.path.insert(0, options.core)
        core = SuffixDecoding(importlib.import_module("_C"), ids)
        sides[core.name] = ours(core, core.name, "suffix")
    return sides, steps


def measure(sides: dict[str, Side], asked: Sequence[Sequence[int]], repeats: int) -> dict[str, Any]:
    """(tokens [P], seconds [P]) of every side: all of them prompt by prompt, in turns; medians of the repeats."""
    names = list(sides)
    tokens = {name: np.zeros((repeats, len(asked))) for name in names}
    seconds = {name: np.zeros((repeats, len(asked))) for name in names}
    for repeat in range(repeats):
        for number, ids in enumerate(asked):
            turn = (number + repeat) % len(names)
            for name in names[turn:] + names[:turn]:
                begun = perf_counter()
                tokens[name][repeat, number] = sides[name](ids, number)
                seconds[name][repeat, number] = perf_counter() - begun
    return {name: (np.median(tokens[name], 0), np.median(seconds[name], 0)) for name in names}


def speed_up(ours: tuple[Any, Any], plain: tuple[Any, Any]) -> dict[str, Any]:
    """Tokens a second over plain decoding's, totals; the interval resamples prompts."""

    def ratio(tokens: Any, seconds: Any, plain_tokens: Any, plain_seconds: Any) -> Any:
        return (tokens.sum(-1) / seconds.sum(-1)) / (plain_tokens.sum(-1) / plain_seconds.sum(-1))

    return {"ratio": float(ratio(*ours, *plain)), "interval": interval(ratio, *ours, *plain)}


if __name__ == "__main__":
    main()

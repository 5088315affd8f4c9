"""Measures what a step takes besides the model's forward pass and the draft: milliseconds by part, by system.

On: the sample model, held-out functions of the standard library, greedy and sampled. Systems take turns prompt by
prompt. The parts of a step: forward, draft; inputs (ids, positions and mask, until the model is called); pick (the
target's picks along the drafted path, and closing the gaps in the cache); learn (what drafters remember of the step).
The overhead is all but forward and draft.
Run: python benchmarks/overhead.py
Prints: JSON and a table of medians over steps, the overhead with a 95 % interval over prompts.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import answer, arguments, interleaved, prompts, report
from peers import corpus
from stores import build

from dresd_milvus.decoding.loop import Generation
from dresd_milvus.decoding.step_costs import StepCosts
from dresd_milvus.models.loading import LoadedModel, load_model
from dresd_milvus.systems.registry import Sources, make_drafter, step_costs
from evaluation.reporting.bootstrap import interval

PARTS = ("forward", "draft", "inputs", "pick", "learn", "overhead")


def record_forward_times(model: Any) -> list[float]:
    """Time the forward passes of a model from now on: returns the list to which each adds its seconds."""
    forward, calls = model.forward, list[float]()

    def timed_forward(*args: Any, **keywords: Any) -> Any:
        begun = perf_counter()
        output = forward(*args, **keywords)
        calls.append(perf_counter() - begun)
        return output

    model.forward = timed_forward
    return calls


def main() -> None:
    options = arguments(
        __doc__ or "", systems="vanilla,suffix,hybrid-dense,hybrid", stored=1500, prompts=12, tokens=128
    )
    model = load_model("sample", "auto", "cpu")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        sources = build(model, corpus(model, "ood", options.stored), Path(folder))
        costs, calls = step_costs(model), record_forward_times(model.target.model)
        results = {str(t): measure(model, sources, costs, calls, t, options) for t in (0.0, 0.7)}
    report(results, model, options)
    print("\n" + table(results))


def measure(
    model: LoadedModel, sources: Sources, costs: StepCosts, calls: list[float], temperature: float, options: Namespace
) -> dict[str, dict[str, Any]]:
    """The parts of a step by system, see `summary`. calls: see `record_forward_times`."""
    drafters = {name: make_drafter(name, sources, costs=costs) for name in options.systems.split(",")}
    measured: dict[str, list[np.ndarray]] = {name: [] for name in drafters}
    for turn, ids, name in interleaved(list(drafters), prompts(model, options.prompts)):
        calls.clear()
        generation = answer(model, drafters[name], name, ids, turn, temperature, options.tokens)
        if turn:
            measured[name].append(parts(generation, calls[-len(generation.steps) :]))
    return {name: summary(texts) for name, texts in measured.items()}


def parts(generation: Generation, forward: Sequence[float]) -> np.ndarray:
    """Milliseconds [steps, PARTS] of the steps of a text. forward: seconds of their forward passes."""
    rows = [
        (f, s.draft, s.verify - f, s.choose, s.total - s.draft - s.verify - s.choose, s.total - s.draft - f)
        for s, f in zip(generation.steps, forward, strict=True)
    ]
    return 1e3 * np.array(rows)


def summary(texts: Sequence[np.ndarray]) -> dict[str, Any]:
    """Medians of texts [steps, PARTS] over all steps, and the 95 % interval of the overhead, which resamples texts."""
    medians = np.median(np.concatenate(texts), axis=0)

    def overheads(drawn: np.ndarray) -> list[Any]:
        return [np.median(np.concatenate([texts[n][:, -1] for n in row])) for row in drawn]

    row = dict(zip(PARTS, medians.tolist(), strict=True))
    return {**row, "interval": interval(overheads, np.arange(len(texts))), "steps": sum(map(len, texts))}


def table(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    lines = ["| temperature | system | " + " | ".join(PARTS) + " [95 %] |", "|---" * (2 + len(PARTS)) + "|"]
    for temperature, systems in results.items():
        for name, row in systems.items():
            low, high = row["interval"]
            figures = " | ".join(f"{row[part]:.2f}" for part in PARTS)
            lines.append(f"| {temperature} | {name} | {figures} [{low:.2f}, {high:.2f}] |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

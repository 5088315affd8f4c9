"""What a step does besides the model's forward pass and the draft: milliseconds by part, by system, greedy and sampled.

inputs: ids, positions and mask, until the model is called. pick: the target's picks along the drafted path, and closing
the cache's gaps. learn: what drafters remember of the step. All but forward and draft is the overhead. Systems take
turns prompt by prompt; medians over steps, the overhead with a 95 % interval over prompts.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import answer, arguments, prompts, report, turns
from peers import corpus
from stores import build

from dresd_milvus.decoding.loop import Generation
from dresd_milvus.decoding.step_costs import StepCosts
from dresd_milvus.models.loading import LoadedModel, load_model
from dresd_milvus.systems.factory import make_drafter, step_costs
from dresd_milvus.systems.sources import Sources
from evaluation.reporting.bootstrap import interval

PARTS = ("forward", "draft", "inputs", "pick", "learn", "overhead")


def timed(model: Any) -> list[float]:
    """A list to which every forward pass of a model adds the seconds that it took."""
    forward, calls = model.forward, list[float]()

    def stopped(*args: Any, **keywords: Any) -> Any:
        begun = perf_counter()
        found = forward(*args, **keywords)
        calls.append(perf_counter() - begun)
        return found

    model.forward = stopped
    return calls


def main() -> None:
    options = arguments(
        __doc__ or "", systems="vanilla,suffix,hybrid-no-dense,hybrid", stored=1500, prompts=12, tokens=128
    )
    model = load_model("sample", "auto", "cpu")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        sources = build(model, corpus(model, "ood", options.stored), Path(folder))
        costs, calls = step_costs(model), timed(model.target.model)
        results = {str(t): measure(model, sources, costs, calls, t, options) for t in (0.0, 0.7)}
    report(results, model, options)
    print("\n" + table(results))


def measure(
    model: LoadedModel, sources: Sources, costs: StepCosts, calls: list[float], temperature: float, options: Namespace
) -> dict[str, dict[str, Any]]:
    """By system, the median milliseconds of every part of a step. calls: see `timed`."""
    drafters = {name: make_drafter(name, sources, costs=costs) for name in options.systems.split(",")}
    found: dict[str, list[np.ndarray]] = {name: [] for name in drafters}
    for turn, ids, name in turns(list(drafters), prompts(model, options.prompts)):
        calls.clear()
        done = answer(model, drafters[name], name, ids, turn, temperature, options.tokens)
        if turn:
            found[name].append(parts(done, calls[-len(done.steps) :]))
    return {name: summary(texts) for name, texts in found.items()}


def parts(done: Generation, forward: Sequence[float]) -> np.ndarray:
    """Milliseconds [steps, PARTS] of a text whose forward passes took so many seconds."""
    rows = [
        (f, s.draft, s.verify - f, s.choose, s.total - s.draft - s.verify - s.choose, s.total - s.draft - f)
        for s, f in zip(done.steps, forward, strict=True)
    ]
    return 1e3 * np.array(rows)


def summary(texts: Sequence[np.ndarray]) -> dict[str, Any]:
    """Medians over the steps of texts [steps, PARTS]; the interval resamples texts."""
    medians = np.median(np.concatenate(texts), axis=0)

    def overheads(drawn: np.ndarray) -> list[Any]:
        return [np.median(np.concatenate([texts[n][:, -1] for n in row])) for row in drawn]

    made = dict(zip(PARTS, medians.tolist(), strict=True))
    return {**made, "interval": interval(overheads, np.arange(len(texts))), "steps": sum(map(len, texts))}


def table(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    lines = ["| temperature | system | " + " | ".join(PARTS) + " [95 %] |", "|---" * (2 + len(PARTS)) + "|"]
    for temperature, systems in results.items():
        for name, made in systems.items():
            low, high = made["interval"]
            figures = " | ".join(f"{made[part]:.2f}" for part in PARTS)
            lines.append(f"| {temperature} | {name} | {figures} [{low:.2f}, {high:.2f}] |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

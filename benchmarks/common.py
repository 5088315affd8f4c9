"""What several benchmarks use: measuring in turns, ratios with intervals, prompts, options, and JSON results."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dresd_milvus.corpus import encode_prompt
from dresd_milvus.decoding.loop import Generation, generate
from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.decoding.sampling import make_sampler
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.systems.registry import budget_of
from evaluation.prompts import load_suite
from evaluation.reporting.bootstrap import interval
from evaluation.running.provenance import provenance

Case = TypeVar("Case")


def alternate(sides: dict[str, Callable[[], float]], repeats: int, warm_up: bool = True) -> dict[str, list[float]]:
    """Measure every side `repeats` times, one after another in turn, so that a slow minute affects all of them alike.

    Returns the measurements by name, in the order in which they were taken.
    """
    for measure in sides.values() if warm_up else ():
        measure()
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats):
        names = list(sides)
        for name in names if turn % 2 == 0 else names[::-1]:
            measured[name].append(sides[name]())
    return measured


def ratio(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """{medians, ratio of the medians, its 95 % bootstrap interval}; pairs of measurements are resampled together."""
    pairs = (np.array(ours), np.array(theirs))
    medians = [float(np.median(side)) for side in pairs]
    return {
        "medians": medians,
        "ratio": medians[0] / medians[1],
        "interval": interval(lambda a, b: np.median(a, axis=1) / np.median(b, axis=1), *pairs),
    }


def prompts(model: LoadedModel, count: int) -> list[list[int]]:
    """The first prompts of the `stdlib` suite as token ids, in the template of the sample model."""
    from dresd_milvus.corpus import Template

    return [encode_prompt(model.tokenizer, Template(), prompt.text) for prompt in load_suite("stdlib", count).prompts]


def answer(
    model: LoadedModel, drafter: Drafter, system: str, ids: Sequence[int], seed: int, temperature: float, tokens: int
) -> Generation:
    """Answer a prompt (token ids) with a drafter and the budget of a system, at top-p 0.95. tokens: at most."""
    sampler = make_sampler(temperature, 0.95, seed)
    return generate(model.target, drafter, sampler, ids, tokens, budget_of(system, None, 32))


def interleaved(cases: Sequence[Case], prompts: Sequence[list[int]]) -> Iterator[tuple[int, list[int], Case]]:
    """(turn, prompt, case): for every prompt all cases, in reverse order every other time.

    Turn 0 is a warm-up with the first prompt.
    """
    for turn, ids in enumerate([prompts[0], *prompts]):
        for case in cases if turn % 2 else cases[::-1]:
            yield turn, ids, case


def run(*command: str) -> None:
    """Run Python with these arguments in a process of its own; exit with its code where it fails."""
    path = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = subprocess.run([sys.executable, *command], env={**os.environ, "PYTHONPATH": path})
    if ended.returncode:
        sys.exit(ended.returncode)


def arguments(description: str, **defaults: Any) -> argparse.Namespace:
    """Parse the options: --out, and one for each default, of its type."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


def report(results: dict[str, Any], model: LoadedModel, options: argparse.Namespace) -> None:
    """Print the results as JSON; with --out, write them to that file together with their provenance."""
    print(json.dumps(results, indent=2))
    if options.out:
        about = provenance(model, {k: v for k, v in vars(options).items() if k != "out"})
        options.out.write_text(json.dumps({"results": results, "provenance": about}, indent=2) + "\n")

"""What the benchmarks share: pairs in alternation, medians, an interval for their ratio, commands, results as JSON."""

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
    """Measure every side `repeats` times, in turn, so that a slow minute of the machine meets all of them alike."""
    for measure in sides.values() if warm_up else ():
        measure()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats):
        names = list(sides)
        for name in names if turn % 2 == 0 else names[::-1]:
            found[name].append(sides[name]())
    return found


def ratio(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """The ratio of medians and its 95 % bootstrap interval (pairs resampled together)."""
    pairs = (np.array(ours), np.array(theirs))
    medians = [float(np.median(side)) for side in pairs]
    return {
        "medians": medians,
        "ratio": medians[0] / medians[1],
        "interval": interval(lambda a, b: np.median(a, axis=1) / np.median(b, axis=1), *pairs),
    }


def prompts(model: LoadedModel, count: int) -> list[list[int]]:
    """Prompts of the `stdlib` suite as tokens, in the sample model's template."""
    from dresd_milvus.corpus import Template

    return [encode_prompt(model.tokenizer, Template(), prompt.text) for prompt in load_suite("stdlib", count).prompts]


def answer(
    model: LoadedModel, drafter: Drafter, system: str, ids: Sequence[int], seed: int, temperature: float, tokens: int
) -> Generation:
    """A prompt's answer of at most so many tokens, with this drafter and the budget of a system, top-p 0.95."""
    sampler = make_sampler(temperature, 0.95, seed)
    return generate(model.target, drafter, sampler, ids, tokens, budget_of(system, None, 32))


def turns(cases: Sequence[Case], asked: Sequence[list[int]]) -> Iterator[tuple[int, list[int], Case]]:
    """(turn, prompt, case): all cases prompt by prompt, every other time in reverse. Turn 0 is the first prompt, which
    comes again: it finds everything cold."""
    for turn, ids in enumerate([asked[0], *asked]):
        for case in cases if turn % 2 else cases[::-1]:
            yield turn, ids, case


def run(*command: str) -> None:
    """A Python program of this checkout, in a process of its own; where it fails, this one ends as it did."""
    path = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, *command], env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        sys.exit(done.returncode)


def arguments(description: str, **defaults: Any) -> argparse.Namespace:
    """--out and one option per default, of its type."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


def report(results: dict[str, Any], model: LoadedModel, options: argparse.Namespace) -> None:
    """Print the figures, and write them with where they come from."""
    print(json.dumps(results, indent=2))
    if options.out:
        about = provenance(model, {k: v for k, v in vars(options).items() if k != "out"})
        options.out.write_text(json.dumps({"results": results, "provenance": about}, indent=2) + "\n")

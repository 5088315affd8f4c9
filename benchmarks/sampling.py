"""Time of a pick at a node that is walked, by sampling parameters: milliseconds on one core, median [95 %].

    PYTHONPATH=. python benchmarks/sampling.py [--vocabulary 128256] [--repeats 200] [--out FILE]

The logits are bfloat16 in the host's memory, and fetching the row is part of a pick. Every row has a long tail (a
normal distribution), 199 tokens that follow Zipf's law with an exponent of 1.2 to 2.4, and a likeliest token that
stands clear of them by an exponentially distributed gap. The numbers were fitted to SmolLM2-135M-Instruct's logits at
199 positions of GSM8K answers. Quartiles there and here: probability of the likeliest token 0.39, 0.63, 0.91 and 0.45,
0.64, 0.87; entropy 0.5, 1.3, 2.1 and 0.7, 1.4, 2.0 nats; tokens in the nucleus (t 0.7, top-p 0.95) 1, 2, 5 and 1, 2, 3.
behind a pass: other memory has gone through the caches before the pick, as in decoding.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
import torch
from common import alternate, arguments
from scipy.stats import bootstrap
from torch import Tensor

from dresd_milvus.decoding.sampling import Greedy, GumbelSampler, Sampler
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from evaluation.running.provenance import git_commit, processor

SAMPLERS: dict[str, Sampler] = {
    "greedy": Greedy(),
    "t 0.7, top-p 1": GumbelSampler(0.7, 1.0),
    "t 0.7, top-p 0.95": GumbelSampler(0.7, 0.95),
    "t 0.7, top-k 50": GumbelSampler(0.7, top_k=50),
    "t 0.7, top-p 0.95, top-k 50, min-p 0.05, penalty 1.1": GumbelSampler(0.7, 0.95, 0, 50, 0.05, 1.1),
    "t 1.5, top-p 1": GumbelSampler(1.5, 1.0),
}

ROWS, TEXT, EVICTED = 64, 500, 64 << 20
"""Rows of logits that take turns; tokens of the longest text; bytes that go through the caches before a pick."""


def main() -> None:
    options = arguments(__doc__ or "", vocabulary=128_256, repeats=200)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    rows, memory = logits(options.vocabulary), np.zeros(EVICTED, np.uint8)
    results: dict[str, Any] = {"processor": processor(), "git": git_commit(), "vocabulary": options.vocabulary}
    for name, evict in (("hot", lambda: None), ("behind a pass", memory.sum)):
        sides = {how: timed(sampler, rows, evict) for how, sampler in SAMPLERS.items()}
        found = alternate(sides, options.repeats)
        results[name] = {how: summary(times) for how, times in found.items()}
        for how, figure in results[name].items():
            low, high = figure["interval"]
            print(f"{name:14} {how:53} {figure['ms']:.3f} [{low:.3f}, {high:.3f}]")
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def logits(vocabulary: int) -> Tensor:
    """bfloat16 [ROWS, V] of the shape that this module describes."""
    random = np.random.default_rng(0)
    made = random.normal(0, 3, (ROWS, vocabulary))
    for row in made:
        likeliest, *others = random.permutation(vocabulary)[:200]
        row[likeliest] = 19 + random.exponential(2.2)
        row[others] = 19 - random.uniform(1.2, 2.4) * np.log(np.arange(1, 200))
    return torch.from_numpy(made).bfloat16()


def timed(sampler: Sampler, rows: Tensor, evict: Callable[[], Any]) -> Callable[[], float]:
    """Gives the milliseconds of a pick, each time of the next row and at the next position."""
    turn, tree, text = count(), DraftTree.root_only(0), list(range(TEXT))

    def measure() -> float:
        at = next(turn)
        evict()
        begun = perf_counter()
        sampler.walk(tree, Scored(rows[at % ROWS][None], rows[:1, :1]), text[: 1 + at % TEXT])
        return 1e3 * (perf_counter() - begun)

    return measure


def summary(times: Sequence[float]) -> dict[str, Any]:
    """Median with the 95 % bootstrap interval over picks."""
    interval = bootstrap((np.array(times),), np.median, method="percentile", rng=0).confidence_interval
    return {"ms": float(np.median(times)), "interval": [float(interval.low), float(interval.high)]}


if __name__ == "__main__":
    main()

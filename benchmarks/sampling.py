"""Measures what a pick costs at one node of the walk, by how tokens are picked: milliseconds on one core.

On: bfloat16 logits in the host's memory, shaped like a language model's: most are normally distributed, and the
likeliest fall off by Zipf's law. Fetching the row is part of a pick. Hot: the row may be in the caches. Behind a pass:
other memory was read before, as in decoding.
Run: python benchmarks/sampling.py [--vocabulary 128256]
Prints: the median of each way of picking, with a 95 % interval; --out FILE writes them as JSON.
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

from dresd_milvus.decoding.sampling import Chooser, Greedy, Sampler
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from evaluation.running.provenance import git_commit, processor

CHOOSERS: dict[str, Chooser] = {
    "greedy": Greedy(),
    "t 0.7, top-p 1": Sampler(0.7, 1.0),
    "t 0.7, top-p 0.95": Sampler(0.7, 0.95),
    "t 0.7, top-p 0.95, top-k 50, min-p 0.05, penalty 1.1": Sampler(0.7, 0.95, 0, 50, 0.05, 1.1),
    "t 1.5, top-p 1": Sampler(1.5, 1.0),
}

ROWS, TEXT, EVICTED = 32, 500, 64 << 20
"""Rows of logits, used in turn; tokens of the text; bytes that are read before a pick to empty the caches."""


def main() -> None:
    options = arguments(__doc__ or "", vocabulary=128_256, repeats=200)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    rows, memory = logits(options.vocabulary), np.zeros(EVICTED, np.uint8)
    results: dict[str, Any] = {"processor": processor(), "git": git_commit(), "vocabulary": options.vocabulary}
    for name, evict in (("hot", lambda: None), ("behind a pass", memory.sum)):
        sides = {how: pick_timer(choose, rows, evict) for how, choose in CHOOSERS.items()}
        measured = alternate(sides, options.repeats)
        results[name] = {how: summary(times) for how, times in measured.items()}
        for how, figure in results[name].items():
            low, high = figure["interval"]
            print(f"{name:14} {how:53} {figure['ms']:.3f} [{low:.3f}, {high:.3f}]")
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def logits(vocabulary: int) -> Tensor:
    """Logits, bfloat16 [ROWS, V]."""
    random = np.random.default_rng(0)
    values = random.normal(0, 2.2, (ROWS, vocabulary))
    for row in values:
        row[random.permutation(vocabulary)[:200]] = 18 - 1.5 * np.log(np.arange(1, 201))
    return torch.from_numpy(values).bfloat16()


def pick_timer(choose: Chooser, rows: Tensor, evict: Callable[[], Any]) -> Callable[[], float]:
    """A function that measures one pick in milliseconds, each time from another row and at another position."""
    turn, tree, text = count(), DraftTree.root_only(0), list(range(TEXT))

    def measure() -> float:
        at = next(turn)
        evict()
        begun = perf_counter()
        choose.walk(tree, Scored(rows[at % ROWS][None], rows[:1, :1]), text[: 1 + at % TEXT])
        return 1e3 * (perf_counter() - begun)

    return measure


def summary(times: Sequence[float]) -> dict[str, Any]:
    """Median with the 95 % bootstrap interval over picks."""
    interval = bootstrap((np.array(times),), np.median, method="percentile", rng=0).confidence_interval
    return {"ms": float(np.median(times)), "interval": [float(interval.low), float(interval.high)]}


if __name__ == "__main__":
    main()

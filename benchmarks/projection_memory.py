"""Measures the peak memory of fitting the projection on a stream of hidden states.

On: random mixtures, made batch by batch. The peak is of the process, libraries included; the target is 2 GB for a
million states of size 4096.
Run: python benchmarks/projection_memory.py
Prints: JSON with peak GiB, and the seconds of reading the stream and of solving for the axes.
"""

from __future__ import annotations

import argparse
import json
import resource
from time import perf_counter

import torch

from dresd_milvus.retrieval.projection import ProjectionFit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=int, default=1_000_000)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--dim", type=int, default=64)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(256, options.hidden, generator=generator)
    fit, start, batch = ProjectionFit(options.hidden), perf_counter(), 2048
    while fit.samples < options.states:
        size = min(batch, options.states - fit.samples)
        fit.add((torch.randn(size, 256, generator=generator) @ mixing).bfloat16())
    gathered = perf_counter() - start
    projection = fit.result(options.dim)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(
        json.dumps(
            {
                "states": fit.samples,
                "hidden": projection.hidden_size,
                "dim": projection.dim,
                "peak_gib": round(peak, 2),
                "seconds": {"stream": round(gathered, 1), "solve": round(perf_counter() - start - gathered, 1)},
            }
        )
    )


if __name__ == "__main__":
    main()

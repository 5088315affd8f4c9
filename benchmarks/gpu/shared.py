"""What the parts share: the other benchmarks' alternation and ratios, a clock that waits for the device, summaries."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1]))
from common import alternate, ratio

from evaluation.reporting.bootstrap import interval

__all__ = ["alternate", "milliseconds", "ratio", "summary", "wait"]


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(device: torch.device, work: Callable[[], Any], rounds: int = 1) -> float:
    """Of one call of `work`, the device's part included; over several rounds, so that the wait weighs less."""
    wait(device)
    begun = perf_counter()
    for _ in range(rounds):
        work()
    wait(device)
    return 1e3 * (perf_counter() - begun) / rounds


def summary(times: list[float]) -> dict[str, Any]:
    """Median, 95 % of bootstrap resamples of it, 95th percentile and number of some milliseconds (at least two)."""
    held = np.array(times)
    return {
        "median": float(np.median(held)),
        "interval": interval(lambda drawn: np.median(drawn, axis=1), held),
        "p95": float(np.percentile(held, 95)),
        "times": len(held),
    }

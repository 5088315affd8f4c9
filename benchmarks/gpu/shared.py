"""What the parts share: turns and ratios (from ../common.py), a clock that waits for the device, summaries."""

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

__all__ = ["alternate", "milliseconds", "ratio", "summary", "synchronize"]


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(device: torch.device, work: Callable[[], Any], rounds: int = 1) -> float:
    """Milliseconds of one call of `work`, with the device's part; the mean of `rounds` calls behind one another."""
    synchronize(device)
    begun = perf_counter()
    for _ in range(rounds):
        work()
    synchronize(device)
    return 1e3 * (perf_counter() - begun) / rounds


def summary(times: list[float]) -> dict[str, Any]:
    """{median, its 95 % bootstrap interval, p95, times: their number} of at least two times in milliseconds."""
    sample = np.array(times)
    return {
        "median": float(np.median(sample)),
        "interval": interval(lambda drawn: np.median(drawn, axis=1), sample),
        "p95": float(np.percentile(sample, 95)),
        "times": len(sample),
    }

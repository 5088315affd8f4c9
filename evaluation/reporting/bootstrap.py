"""How sure a figure is: the bootstrap (Efron, 1979), used for every interval in reports and docs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000


def interval(statistic: Callable[..., Any], *samples: NDArray[Any]) -> list[float]:
    """[low, high] of 95 % of the resamples (percentile method, seed 0).

    samples: arrays [n, ...] about the same n texts or measurements, drawn together. statistic: gets every sample as
    [RESAMPLES, n, ...] and gives [RESAMPLES] figures. scipy.stats.bootstrap draws the same way, but refuses a sample
    of one (an evaluation of one prompt is one) and takes the columns of a table for samples of their own.
    """
    count = len(samples[0])
    drawn = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    return [float(edge) for edge in np.percentile(statistic(*(sample[drawn] for sample in samples)), [2.5, 97.5])]

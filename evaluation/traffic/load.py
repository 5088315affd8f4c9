"""The load: which prompt arrives when. Each server gets the same one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from dresd_milvus.errors import InputError
from dresd_milvus.options import SeedOption, TemperatureOption


class Request(NamedTuple):
    """prompt: its number in the suite. arrives: seconds from the beginning of its block."""

    prompt: int
    arrives: float


@dataclass(frozen=True)
class Load:
    """How requests come, and what each of them asks for."""

    rate: Annotated[float, typer.Option(help="Mean rate of arrivals (requests/s); inf: all at once.")] = math.inf
    concurrency: Annotated[
        int, typer.Option(min=1, max=1000, help="Largest number of requests in flight; others wait, and it counts.")
    ] = 16
    rounds: Annotated[
        int, typer.Option(min=1, help="Number of parts of the prompts; in each the servers take turns.")
    ] = 5
    temperature: TemperatureOption = 0.0
    seed: SeedOption = 0
    timeout: Annotated[float, typer.Option(min=0.001, help="Longest time of a request once sent (seconds).")] = 600.0

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise InputError(f"--rate is a number of requests a second above 0, or inf, not {self.rate:g}")
        if not (math.isfinite(self.temperature) and math.isfinite(self.timeout)):
            raise InputError("--temperature and --timeout are finite numbers; correct them")

    def blocks(self, prompts: int) -> list[list[Request]]:
        """The requests of each round, in order of arrival. prompts: number of prompts.

        A prompt is in one round only: asked again, a server that remembers its answers would draft them.
        """
        numbers = [range(first, prompts, self.rounds) for first in range(min(self.rounds, prompts))]
        times = [arrivals(len(part), self.rate, (self.seed, turn)) for turn, part in enumerate(numbers)]
        return [list(map(Request, part, at.tolist())) for part, at in zip(numbers, times, strict=True)]


def arrivals(count: int, rate: float, seed: int | tuple[int, ...]) -> NDArray[np.float64]:
    """When requests arrive, in seconds [count]: a Poisson process of `rate` a second; all at 0 for an infinite rate."""
    return np.random.default_rng(seed).exponential(1.0, count).cumsum() / rate

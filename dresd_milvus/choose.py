"""How the target picks a token from its logits: greedy, or sampled with noise that a seed and a position fix.

A chooser turns one row of logits into scores and takes the highest. For sampling the score of a token is its
filtered log-probability plus Gumbel noise, so that the argmax is an exact draw (Gumbel-max trick); the noise
depends only on (seed, absolute position). One draw per position serves every path of a draft tree, which keeps
speculative sampling lossless and makes it emit, seed for seed, what plain sampling emits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.compiled import compiled
from dresd_milvus.errors import InputError
from dresd_milvus.host import on_host

Floats = NDArray[np.float64]


class Chooser(Protocol):
    """Picks the target's token at an absolute position (the index the token will have in the text)."""

    def scores(self, logits: Tensor, position: int) -> Tensor:
        """logits float [V] -> scores float [V]; the pick is their argmax, and their top-2 gap its margin."""
        ...

    def __call__(self, logits: Tensor, position: int) -> int:
        """logits float [V] -> token id."""
        ...


@dataclass(frozen=True)
class Greedy:
    """The most likely token."""

    def scores(self, logits: Tensor, position: int) -> Tensor:
        return logits

    def __call__(self, logits: Tensor, position: int) -> int:
        # On a processor numpy's argmax of one row is thirty times faster than torch's.
        return int(logits.argmax() if logits.device.type != "cpu" else on_host(logits).argmax())


@dataclass(frozen=True)
class Sampler:
    """Temperature and top-p (nucleus) sampling.

    temperature > 0; 0 < top_p <= 1 keeps the smallest set of most likely tokens whose probability reaches top_p.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"a sampler's temperature must be a number above 0, not {self.temperature:g}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top-p must be above 0 and at most 1, not {self.top_p:g}")
        if not 0 <= self.seed < 2**64:
            raise InputError(f"a seed must be from 0 to 2^64 - 1, not {self.seed}")

    def scores(self, logits: Tensor, position: int) -> Tensor:
        below, probabilities = self._scaled(logits)
        kept = _nucleus(probabilities, self.top_p)
        scores = np.full(len(below), -np.inf)
        scores[kept] = below[kept] + _noise(self.seed, position, kept)
        return torch.from_numpy(scores).to(logits.device)

    def __call__(self, logits: Tensor, position: int) -> int:
        return _draw(*self._scaled(logits), self.top_p, self.seed, position)

    def _scaled(self, logits: Tensor) -> tuple[Floats, Floats]:
        """(log-probabilities but for a constant, probabilities), float64 [V], before the filter."""
        below = logits.double().cpu()
        below = (below - below.max()) / self.temperature  # at most 0, so that no temperature makes it overflow
        return below.numpy(), below.softmax(-1).numpy()

    def noise(self, size: int, position: int) -> Tensor:
        """float64 [size] of standard Gumbel noise, a hash of seed, position and token: the same everywhere."""
        return torch.from_numpy(_noise(self.seed, position, np.arange(size)))


def make_chooser(temperature: float, top_p: float, seed: int) -> Chooser:
    """Greedy for temperature 0, else a sampler."""
    return Greedy() if temperature == 0 else Sampler(temperature, top_p, seed)


@compiled
def _draw(below: Floats, probabilities: Floats, top_p: float, seed: int, position: int) -> int:
    """The token of the nucleus whose score, log-probability plus noise, is highest."""
    kept = _nucleus(probabilities, top_p)
    return kept[np.argmax(below[kept] + _noise(seed, position, kept))]


@compiled
def _nucleus(probabilities: Floats, top_p: float) -> NDArray[np.int64]:
    """The fewest most likely tokens whose probabilities reach top_p; of equal ones the first. [V] -> int64 [kept]."""
    size = len(probabilities)
    if top_p >= 1:
        return np.arange(size)
    # What is less likely than this is, all together, less likely than what may be left out.
    few = np.flatnonzero(probabilities >= (1 - top_p) / size)
    few = few[np.argsort(-probabilities[few], kind="mergesort")]
    total, kept = 0.0, 0
    while kept < len(few) and total < top_p:
        total += probabilities[few[kept]]
        kept += 1
    return few[: max(kept, 1)]


@compiled
def _noise(seed: int, position: int, tokens: NDArray[np.int64]) -> Floats:
    """Gumbel noise [T] of these tokens at a position: -log(-log(u)), u from 53 bits of a hash."""
    base = _mix(_mix(np.uint64(seed)) ^ np.uint64(position))
    found = np.empty(len(tokens))
    for index in range(len(tokens)):
        bits = _mix(base ^ np.uint64(tokens[index])) >> np.uint64(11)
        found[index] = -np.log(-np.log((np.float64(bits) + 0.5) * 2.0**-53))
    return found


@compiled
def _mix(value: np.uint64) -> np.uint64:
    """The counter-based generator SplitMix64 (Steele, Lea and Flood 2014): one step from this state."""
    value += np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))

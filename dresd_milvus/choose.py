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
from torch import Tensor

from dresd_milvus.errors import InputError


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
        return int(logits.argmax())


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
        below = logits.double() - logits.max()  # at most 0, so that no temperature makes it overflow
        kept = top_p_filter(below / self.temperature, self.top_p)
        return kept + self.noise(len(logits), position).to(logits.device)

    def __call__(self, logits: Tensor, position: int) -> int:
        return int(self.scores(logits, position).argmax())

    def noise(self, size: int, position: int) -> Tensor:
        """float64 [size] of standard Gumbel noise, from the counter-based generator Philox: the same everywhere."""
        bits = np.random.Philox(key=self.seed, counter=[0, 0, 0, position])
        return torch.from_numpy(-np.log(np.random.Generator(bits).standard_exponential(size)))


def top_p_filter(logits: Tensor, top_p: float) -> Tensor:
    """logits [V] -> [V] with -inf outside the nucleus; the most likely token always stays."""
    if top_p >= 1:
        return logits
    probabilities = logits.softmax(-1)
    size = len(logits)
    # Nuclei are small: sort a few of the most likely tokens, and everything only if they do not reach top_p.
    for few in (min(64, size), size):
        top, ids = probabilities.topk(few)
        if float(top.sum()) >= top_p:
            break
    before = top.cumsum(0) - top
    kept = ids[before < top_p]
    return torch.full_like(logits, -torch.inf).index_copy_(0, kept, logits[kept])


def make_chooser(temperature: float, top_p: float, seed: int) -> Chooser:
    """Greedy for temperature 0, else a sampler."""
    return Greedy() if temperature == 0 else Sampler(temperature, top_p, seed)

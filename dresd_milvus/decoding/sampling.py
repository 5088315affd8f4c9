"""How the target picks a token from its logits: greedy, or sampled with noise that a seed and a position fix.

A sampler turns the logits after a text into scores and takes the highest. A sampled token's score is its filtered
log-probability plus Gumbel noise, so that the argmax is an exact draw (Gumbel-max trick; Maddison, Tarlow and Minka
2014, "A* sampling"). The noise is a hash of seed, absolute position and token alone. One draw per position serves every
path of a draft tree: speculative sampling is lossless, and emits, seed for seed, what plain sampling emits.

Penalty and filters are those of transformers, in its order: repetition penalty, temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.decoding.scores import Floats, Scored, kth_highest
from dresd_milvus.decoding.tree import DraftTree, Walk
from dresd_milvus.errors import InputError

Float64 = NDArray[np.float64]
Hashes = NDArray[np.uint64]

FAINTEST = -80.0
"""e^-80 adds nothing to a sum of at least 1; of lower numbers, -inf among them, np.exp takes four times as long."""

NEAR = 8.0
"""Tokens whose log-probabilities lie at most this far below the highest are scored whatever their noise is."""

MARGIN, SLACK = 1 + 1e-9, 8
"""How much a bound on the noise's hash is loosened, as a factor and in units of the hash: far more than rounding of
logarithms and sums can change it."""


class Sampler(Protocol):
    """Picks the target's next token after a text (token ids, prompt included, at least one)."""

    def scores(self, row: Floats, text: Sequence[int]) -> Floats:
        """Logits [V] after a text -> scores [V]; the pick is the first of the highest, and their top-2 gap its
        margin."""
        ...

    def walk(self, tree: DraftTree, scored: Scored, text: Sequence[int]) -> Walk:
        """Follow the picks through a tree that the target has scored. text: the committed tokens, the last the root."""
        ...


@dataclass(frozen=True)
class Greedy:
    """Picks the most likely token, of equal ones the first. repetition_penalty: see `penalised`.

    Raises InputError for a penalty that is not a number above 0.
    """

    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _check_penalty(self.repetition_penalty)

    def scores(self, row: Floats, text: Sequence[int]) -> Floats:
        return penalised(row, text, self.repetition_penalty)

    def walk(self, tree: DraftTree, scored: Scored, text: Sequence[int]) -> Walk:
        return _walk(tree, scored, text, lambda row, before: int(self.scores(row, before).argmax()))


@dataclass(frozen=True)
class GumbelSampler:
    """Samples with a temperature and filters.

    temperature: above 0. top_p: probability that the smallest set of most likely tokens must reach to be kept, above 0;
    1 keeps all. seed: 0 to 2^64 - 1. top_k: number of most likely tokens that are kept, with those equal to the last of
    them; 0 keeps all. min_p: least probability of a kept token, as a share of the likeliest one's, 0 to 1.
    repetition_penalty: see `penalised`. Raises InputError for values outside of these ranges.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"a sampler's temperature must be a number above 0, not {self.temperature:g}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top-p must be above 0 and at most 1, not {self.top_p:g}")
        if not 0 <= self.seed < 2**64:
            raise InputError(f"a seed must be from 0 to 2^64 - 1, not {self.seed}")
        if self.top_k < 0:
            raise InputError(f"top-k must be 0 (all tokens) or more, not {self.top_k}")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min-p must be from 0 to 1, not {self.min_p:g}")
        _check_penalty(self.repetition_penalty)

    def filtered(self, row: Floats, text: Sequence[int]) -> Floats:
        """Logits [V] after a text -> how far each log-probability lies below the highest, at most 0; -inf for tokens
        that are not kept. Of the dtype of the logits."""
        levels = penalised(row, text, self.repetition_penalty)
        levels = levels - levels.max()
        with np.errstate(over="ignore"):  # at the lowest temperatures: -inf
            levels /= max(self.temperature, np.finfo(levels.dtype).tiny)  # not 0, which 0 cannot be divided by
        if 0 < self.top_k < len(levels):
            levels[levels < kth_highest(levels, self.top_k)] = -np.inf
        if self.top_p < 1:
            _keep_nucleus(levels, self.top_p)
        if self.min_p > 0:
            levels[levels < np.log(self.min_p)] = -np.inf
        return levels

    def noise(self, size: int, position: int) -> Float64:
        """Standard Gumbel noise [size] of tokens 0 to size - 1 at a position (the index of a token in its text)."""
        return _gumbel(_hashes(np.uint64(self.seed), np.uint64(position), size))

    def scores(self, row: Floats, text: Sequence[int]) -> Float64:
        return self.filtered(row, text) + self.noise(len(row), len(text))

    def walk(self, tree: DraftTree, scored: Scored, text: Sequence[int]) -> Walk:
        return _walk(tree, scored, text, self._pick)

    def _pick(self, row: Floats, text: Sequence[int]) -> int:
        """The argmax of `scores`, found without a logarithm for every token."""
        hashes = _hashes(np.uint64(self.seed), np.uint64(len(text)), len(row))
        return draw(self.filtered(row, text), hashes)


def make_sampler(
    temperature: float,
    top_p: float,
    seed: int,
    top_k: int = 0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
) -> Sampler:
    """Greedy for temperature 0, where filters change nothing, else a sampler; raises InputError as they do."""
    if temperature == 0:
        return Greedy(repetition_penalty)
    return GumbelSampler(temperature, top_p, seed, top_k, min_p, repetition_penalty)


def penalised(row: Floats, text: Sequence[int], penalty: float) -> Floats:
    """Logits [V] with those of tokens that are in the text made less likely: positive ones divided by the penalty,
    negative ones multiplied (Keskar et al. 2019, "CTRL"; transformers' definition). 1 leaves them as they are."""
    if penalty == 1:
        return row
    found, seen = row.copy(), np.array(text)
    seen = seen[seen < len(row)]  # some vocabularies have tokens that the model reads and never writes
    found[seen] = np.where(row[seen] < 0, row[seen] * penalty, row[seen] / penalty)
    return found


def _check_penalty(penalty: float) -> None:
    if not 0 < penalty < float("inf"):
        raise InputError(f"a repetition penalty must be a number above 0, not {penalty:g}")


def _walk(tree: DraftTree, scored: Scored, text: Sequence[int], pick: Callable[[Floats, Sequence[int]], int]) -> Walk:
    """Follow the picks through a tree. pick: makes a token of logits [V] and the text before them, which is the
    committed one and the node's own path."""
    before = list(text)

    def pick_at(node: int, depth: int) -> int:
        before.append(pick(scored.row(node), before))
        return before[-1]

    return tree.walk(pick_at)


def _keep_nucleus(levels: Floats, top_p: float) -> None:
    """Set levels [V] (see `GumbelSampler.filtered`) outside of the nucleus to -inf.

    Of equal ones the first stay. In place, because to allocate a row takes longer than to work on it.
    """
    # The likeliest token has the mass 1. Tokens below (1 - top_p) / V hold less than 1 - top_p of it together.
    few = np.flatnonzero(levels >= np.log((1 - top_p) / len(levels)))
    few = few[np.argsort(-levels[few], kind="stable")]
    likely = levels[few]
    np.maximum(levels, FAINTEST, out=levels)
    enough = top_p * np.exp(levels, out=levels).sum()
    count = 1 + np.searchsorted(np.exp(likely).cumsum(), enough)
    levels.fill(-np.inf)
    levels[few[:count]] = likely[:count]


def draw(levels: Floats, hashes: Hashes) -> int:
    """The first token whose level plus noise is highest.

    levels [V]: see `GumbelSampler.filtered`. hashes [V]: of the tokens, from which their noise is made.
    A token's noise grows with its hash. Tokens with high levels are scored first. To beat the best of them, any other
    token must make up for more than NEAR, which only the few with the highest hashes do.
    """
    near = np.flatnonzero(levels >= -NEAR)
    best = (levels[near] + _gumbel(hashes[near])).max()
    tokens = np.union1d(near, np.flatnonzero(hashes >= _least_hash(best + NEAR)))
    return int(tokens[(levels[tokens] + _gumbel(hashes[tokens])).argmax()])


def _least_hash(noise: float) -> np.uint64:
    """A hash that all hashes whose noise is at least this high reach.

    By the Gumbel distribution they are a share 1 - exp(-exp(-noise)) of the 2^53 hashes, the highest ones.
    """
    share = -np.expm1(-np.exp(-noise))
    return np.uint64(2**53 - min(int(2.0**53 * MARGIN * share) + SLACK, 2**53))


def _gumbel(hashes: Hashes) -> Float64:
    """Standard Gumbel noise -log(-log(u)), u from 53 bits of a hash."""
    return -np.log(-np.log((hashes + 0.5) * 2.0**-53))


@compiled
def _hashes(seed: np.uint64, position: np.uint64, size: int) -> Hashes:
    """53 bits of the hash of every token at a position."""
    base, found = _mix(_mix(seed) ^ position), np.empty(size, np.uint64)
    for token in range(size):
        found[token] = _mix(base ^ np.uint64(token)) >> np.uint64(11)
    return found


@compiled
def _mix(value: np.uint64) -> np.uint64:
    """The counter-based generator SplitMix64 (Steele, Lea and Flood 2014): one step from this state."""
    value += np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))

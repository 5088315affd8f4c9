"""How the target picks a token from its logits: greedy, or sampled with noise that a seed and a position fix.

A chooser turns one row of logits into scores and takes the highest. For sampling the score of a token is its
filtered log-probability plus Gumbel noise, so that the argmax is an exact draw (Gumbel-max trick); the noise
depends only on (seed, absolute position). One draw per position serves every path of a draft tree, which keeps
speculative sampling lossless and makes it emit, seed for seed, what plain sampling emits.

On a processor a walk through the tree is one compiled call, which looks at the nodes that it comes to. On a device what
every node needs is made at once and fetched in one piece; only sampling without a nucleus fetches the row of every node
that is walked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.compiled import compiled
from dresd_milvus.errors import InputError
from dresd_milvus.host import Floats, Scored, floats, gather, like, likeliest, number, numbers, on_host
from dresd_milvus.tree import DraftTree, Int32, Int64, PickAt, Walk, child

STRIDE, FAINTEST = np.log(16.0), -64.0
"""By how much the bound of what is looked at closely is lowered, and log-probabilities that add up to nothing."""

DOUBT = 1e-4
"""By what share of itself a quickly made mass may be wrong: where that could change the nucleus, it is made well."""

FEW = 112
"""Tokens that room is made for at first: behind a forward pass, room for a whole row takes 7 us to get."""

PART = 4096
"""Numbers that are added up in float32."""

UNKNOWN = 0.0
"""A mass that was not added up yet; all are at least 1."""

LIKELIEST = 256
"""Tokens of a row that are fetched from a device, where they are sure to hold its nucleus; else the whole row is."""


class Chooser(Protocol):
    """Picks the target's tokens at absolute positions (the index that a token will have in the text)."""

    def scores(self, logits: Tensor, position: int) -> Tensor:
        """logits float [V] -> scores float [V]; the pick is their argmax, and their top-2 gap its margin."""
        ...

    def walk(self, tree: DraftTree, scored: Scored, position: int) -> Walk:
        """Follow the picks through a tree of which the target has said logits [N, V]; position: of the token after the
        root."""
        ...


@dataclass(frozen=True)
class Greedy:
    """The most likely token."""

    def scores(self, logits: Tensor, position: int) -> Tensor:
        return logits

    def walk(self, tree: DraftTree, scored: Scored, position: int) -> Walk:
        if scored.held is not None:
            return Walk(*_walk(tree.tokens, tree.parents, *scored.held, 0.0, 1.0, 0, position))
        best = scored.logits.argmax(-1).tolist()
        return tree.walk(lambda node, depth: best[node])


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
        row = on_host(logits)
        kept, below = _nucleus(row, self.temperature, self.top_p, UNKNOWN)
        scores = np.full(len(row), -np.inf)
        scores[kept] = below + _noise(self.seed, position, kept)
        return torch.from_numpy(scores).to(logits.device)

    def walk(self, tree: DraftTree, scored: Scored, position: int) -> Walk:
        if scored.held is not None:
            how = *scored.held, self.temperature, self.top_p, self.seed, position
            return Walk(*_walk(tree.tokens, tree.parents, *how))
        if self.top_p >= 1:  # without a nucleus whole rows are needed, each as it is walked
            return tree.walk(self.of_rows(scored.logits, position))
        return tree.walk(self.of_likeliest(scored.logits, position))

    def of_rows(self, logits: Tensor, position: int) -> PickAt:
        """The picks from logits [N, V] of any device, a row fetched when its node is asked for."""
        how = self.temperature, self.top_p, self.seed
        return lambda node, depth: _draw(on_host(logits[node]), *how, position + depth)

    def of_likeliest(self, logits: Tensor, position: int) -> PickAt:
        """The same from the likeliest tokens of all rows, fetched in one piece; from the whole row where they do not
        surely hold the nucleus."""
        values = logits.double()
        totals = ((values - values.amax(-1, keepdim=True)) / self.temperature).exp().sum(-1, keepdim=True)
        # In the order of their numbers, for of equals the first goes into the nucleus.
        tokens = values.topk(min(LIKELIEST, logits.shape[1])).indices.sort(-1).values
        fetched = torch.cat([totals, tokens.double(), values.gather(1, tokens)], 1).cpu().numpy()
        whole, of_row = tokens.shape[1] == logits.shape[1], self.of_rows(logits, position)

        def pick(node: int, depth: int) -> int:
            total, (named, row) = fetched[node, 0], fetched[node, 1:].reshape(2, -1)
            how = total, self.temperature, self.top_p, self.seed, position + depth
            token, least = _draw_named(row, named, *how)
            # What was left behind is no likelier than the least that was fetched.
            return token if least > row.min() or whole else of_row(node, depth)

        return pick

    def noise(self, size: int, position: int) -> Tensor:
        """float64 [size] of standard Gumbel noise, a hash of seed, position and token: the same everywhere."""
        return torch.from_numpy(_noise(self.seed, position, np.arange(size)))


def make_chooser(temperature: float, top_p: float, seed: int) -> Chooser:
    """Greedy for temperature 0, else a sampler."""
    return Greedy() if temperature == 0 else Sampler(temperature, top_p, seed)


@compiled
def _walk(
    tokens: Int32,
    parents: Int32,
    address: int,
    width: int,
    kind: NDArray[Any],
    temperature: float,
    top_p: float,
    seed: int,
    position: int,
) -> tuple[Int64, Int64]:
    """(path, picks) of `DraftTree.walk`. address, width, kind: of logits [N, V], see `Held`; temperature 0: the
    first of the likeliest."""
    path, picks = np.empty(len(tokens), np.int64), np.empty(len(tokens), np.int64)
    node, depth = 0, 0
    while True:
        row = numbers(address, width, kind, node)
        pick = _draw(row, temperature, top_p, seed, position + depth) if temperature else likeliest(row)
        path[depth], picks[depth] = node, pick
        node, depth = child(tokens, parents, node, pick), depth + 1
        if node == 0:
            return path[:depth], picks[:depth]


@compiled
def _draw(row: NDArray[Any], temperature: float, top_p: float, seed: int, position: int) -> int:
    """The token of the nucleus whose score, log-probability plus noise, is highest. row: logits [V]."""
    kept, below = _nucleus(row, temperature, top_p, UNKNOWN)
    return kept[np.argmax(below + _noise(seed, position, kept))]


@compiled
def _draw_named(
    row: Floats, named: Floats, total: float, temperature: float, top_p: float, seed: int, position: int
) -> tuple[int, float]:
    """(the same, the least logit of the nucleus) from some tokens' logits [K]; named: which tokens they are, [K];
    total: the mass of all of the row that they are from."""
    kept, below = _nucleus(row, temperature, top_p, total)
    tokens = named[kept].astype(np.int64)
    return tokens[np.argmax(below + _noise(seed, position, tokens))], row[kept].min()


@compiled
def _nucleus(row: NDArray[Any], temperature: float, top_p: float, total: float) -> tuple[NDArray[np.int64], Floats]:
    """(the fewest most likely tokens whose probabilities reach top_p, of equal ones the first; how far their
    log-probabilities lie below the highest). row: logits [V]; total: see `_mass`, UNKNOWN for this row's."""
    top = number(row, likeliest(row))
    highest, exact = np.float64(top), total != UNKNOWN
    if top_p >= 1:
        return np.arange(len(row)), (floats(row) - highest) / temperature
    if not exact:
        total = _about_mass(row, top, temperature)
    # Few tokens hold most of the probability: only those are looked at closely.
    bound = -STRIDE
    few, below, mass = _above(row, top, bound, temperature)
    while mass < top_p * total * (1 + DOUBT) and bound > FAINTEST:
        bound -= STRIDE
        few, below, mass = _above(row, top, bound, temperature)
    order = np.argsort(-below, kind="mergesort")
    reached, kept = 0.0, 0
    while kept < len(few) and (kept == 0 or reached < top_p * total):
        reached += np.exp(below[order[kept]])
        kept += 1
        if not exact and abs(reached - top_p * total) < DOUBT * total:
            total, exact = _mass(row, highest, temperature), True
    return few[order[:kept]], below[order[:kept]]


@compiled
def _above(
    row: NDArray[Any], top: np.floating[Any], bound: float, temperature: float
) -> tuple[NDArray[np.int64], Floats, float]:
    """(tokens whose log-probabilities lie at most so far below the highest, how far they do, their mass). top: the
    highest of the logits, of their own type, in which they are compared."""
    least, few = top + like(bound * temperature, row), np.empty(FEW, np.int64)
    many = gather(row, least, few)
    if many < 0:
        few = np.empty(len(row), np.int64)
        many = gather(row, least, few)
    few, below, mass = few[:many], np.empty(many), 0.0
    for place in range(many):
        below[place] = (np.float64(number(row, few[place])) - np.float64(top)) / temperature
        mass += np.exp(below[place])
    return few, below, mass


@compiled(any_order=True)
def _mass(row: NDArray[Any], highest: float, temperature: float) -> float:
    """The sum of e^((logit - the highest) / temperature) over logits [V], within 1e-12.

    e^x as the 1024th power of the series of e^(x / 1024): without branches, so that many are made at a time.
    """
    total, scale = 0.0, min(1 / temperature, 1e300)  # the lowest temperatures have no inverse
    for token in range(len(row)):
        x = max((np.float64(number(row, token)) - highest) * scale, FAINTEST) * (1 / 1024)
        tail = 1 + x * (1 / 5) * (1 + x * (1 / 6) * (1 + x * (1 / 7) * (1 + x * (1 / 8))))
        power = 1 + x * (1 + x * (1 / 2) * (1 + x * (1 / 3) * (1 + x * (1 / 4) * tail)))
        for _ in range(10):
            power *= power
        total += power
    return total


@compiled
def _about_mass(row: NDArray[Any], top: np.floating[Any], temperature: float) -> float:
    """The same within DOUBT, in a third of the time: in float32, as the 64th power of a shorter series. top: the
    highest of the logits, of their own type."""
    total, scale = 0.0, np.float32(min(1 / temperature, 1e30) / 64)
    for begin in range(0, len(row), PART):
        total += _about_part(row[begin : begin + PART], top, scale)
    return total


@compiled(any_order=True)
def _about_part(row: NDArray[Any], top: np.floating[Any], scale: np.float32) -> np.float32:
    """The mass of so few logits that float32 can add it up."""
    total, one = np.float32(0), np.float32(1)
    for token in range(len(row)):
        x = max(np.float32(number(row, token) - top) * scale, np.float32(FAINTEST / 64))
        tail = x * np.float32(1 / 3) * (one + x * np.float32(1 / 4) * (one + x * np.float32(1 / 5)))
        of_64 = one + x * (one + x * np.float32(1 / 2) * (one + tail))
        of_32 = of_64 * of_64  # a loop over these would keep the others from being made many at a time
        of_16 = of_32 * of_32
        of_8 = of_16 * of_16
        of_4 = of_8 * of_8
        of_2 = of_4 * of_4
        total += of_2 * of_2
    return total


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

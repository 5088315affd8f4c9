"""How likely a token is to come next, given what several sources say of it: calibrated and mixed as the text goes on.

For each kind of source that has something to say, a candidate token lies in a cell: the grade of the evidence, the
share of it that names this token, how much evidence there is. How often tokens of a cell were right is counted. The
log-odds of these frequencies are summed with weights that follow the errors, a set of weights for every set of kinds
that speak: context mixing as in PAQ (Mahoney 2005, "Adaptive weighing of context models for lossless data compression",
section 3), with its last stage, a curve that maps what the sum says to what was true.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.drafters.hybrid.evidence import KINDS, LEVELS, Floats

SHARE_EDGES = np.array([0.0, 0.03, 0.1, 0.25, 0.45, 0.65, 0.85, 0.999])
COUNT_EDGES = np.array([1, 2, 5, 15])
SHARES, COUNTS = len(SHARE_EDGES) + 1, len(COUNT_EDGES) + 1
CELLS = LEVELS * SHARES * COUNTS

DEPTHS = 3
"""Weights differ for the first draft token, the second and third, and the others."""

REACHES, BESTS = 6, 4
"""Curves differ for the first draft token and for five ranges of how likely the token before is, and for four of how
likely the best candidate is."""

CERTAIN = 1e-4
"""No frequency is taken for nearer to 0 or 1."""

LARGEST = 12.0
"""Log-odds beyond which nothing is more certain."""

RATE = 0.02
"""How far weights follow an error."""

MEMORY = 255
"""Cases on which a cell's frequency rests at most: what is older is forgotten."""

CURVE_RATE = 0.005


CELL = np.dtype([("right", np.float64), ("seen", np.float64), ("odds", np.float64)])
"""How often tokens of a cell came next, cases that rests on, and its log-odds: side by side, for they are read together
when a step has just driven all else out of the processor's cache."""


class Mixer(NamedTuple):
    """What was learned, changed in place. KINDS kinds, one bit each of a set.

    cells: CELL [KINDS, CELLS]. weights: [DEPTHS * 2^KINDS, KINDS + 1], the last a bias.
    curve: [REACHES * BESTS, 25], what is true where the mixture has log-odds of -12 ... 12.
    """

    cells: NDArray[np.void]
    weights: Floats
    curve: Floats

    @classmethod
    def untaught(cls) -> Mixer:
        """Trusts shares, more the better the evidence is graded."""
        shares = np.concatenate(([0.003], (SHARE_EDGES[:-1] + SHARE_EDGES[1:]) / 2, [1.0]))
        trust = np.linspace(0.3, 0.95, LEVELS)
        right = np.clip(trust[:, None, None] * shares[:, None] * np.ones(COUNTS), 0.002, 0.97).reshape(-1)
        speaking = (np.arange(2**KINDS)[:, None] >> np.arange(KINDS)) & 1
        weights = speaking / np.maximum(speaking.sum(1, keepdims=True), 1) ** 0.6
        return cls._of(
            np.tile(right, (KINDS, 1)),
            np.full((KINDS, CELLS), 4.0),
            np.tile(np.pad(weights, ((0, 0), (0, 1))), (DEPTHS, 1)),
            np.tile(1 / (1 + np.exp(LARGEST - np.arange(2 * LARGEST + 1))), (REACHES * BESTS, 1)),
        )

    @classmethod
    def _of(cls, right: Floats, seen: Floats, weights: Floats, curve: Floats) -> Mixer:
        cells, kept = np.empty(right.shape, CELL), np.clip(right, CERTAIN, 1 - CERTAIN)
        cells["right"], cells["seen"], cells["odds"] = right, seen, np.log(kept / (1 - kept))
        return cls(cells, weights, curve)

    @classmethod
    def load(cls, file: Path, cases: float) -> Mixer:
        """What was learned before, as if it rested on at most so many cases, so that it gives way to what comes."""
        with np.load(file) as held:
            arrays = {name: held[name].astype(np.float64) for name in ("right", "seen", "weights", "curve")}
        arrays["seen"] = np.minimum(arrays["seen"], cases)
        return cls._of(**arrays)

    def save(self, file: Path) -> None:
        """float32, compressed."""
        right, seen, weights, curve = (
            values.astype(np.float32) for values in (self.cells["right"], self.cells["seen"], self.weights, self.curve)
        )
        np.savez_compressed(file, right=right, seen=seen, weights=weights, curve=curve)


@compiled
def cell(level: int, share: float, count: int) -> int:
    """Where a token lies of whose kind the evidence is so good, names it with this share, and has so many rows."""
    s = 0
    while s < SHARES - 1 and share > SHARE_EDGES[s]:
        s += 1
    c = 0
    while c < COUNTS - 1 and count > COUNT_EDGES[c]:
        c += 1
    return (level * SHARES + s) * COUNTS + c


@compiled
def mixed(mixer: Mixer, weights: int, cells: NDArray[np.int32]) -> float:
    """Log-odds of a candidate that lies in cells [KINDS] (-1: this kind is silent), by the set of weights given."""
    total = mixer.weights[weights, KINDS]
    for kind in range(KINDS):
        if cells[kind] >= 0:
            total += mixer.weights[weights, kind] * mixer.cells[kind, cells[kind]].odds
    return min(max(total, -LARGEST), LARGEST)


@compiled
def truth(mixer: Mixer, curve: int, odds: float) -> float:
    """The probability where the mixture has these log-odds: between the points of a curve, linear."""
    place = odds + LARGEST
    low = min(int(place), int(2 * LARGEST) - 1)
    share = place - low
    return (1 - share) * mixer.curve[curve, low] + share * mixer.curve[curve, low + 1]


@compiled
def follow(mixer: Mixer, weights: int, curve: int, odds: float, cells: NDArray[np.int32], came: bool) -> None:
    """Learn from one candidate: whether it came next."""
    truly = 1.0 if came else 0.0
    nearest = int(odds + LARGEST + 0.5)
    mixer.curve[curve, nearest] += (truly - mixer.curve[curve, nearest]) * CURVE_RATE
    error = RATE * (truly - 1 / (1 + np.exp(-odds)))
    for kind in range(KINDS):
        at = cells[kind]
        if at < 0:
            continue
        held = mixer.cells[kind, at]
        mixer.weights[weights, kind] += error * held.odds
        held.seen = min(held.seen + 1, MEMORY)
        held.right += (truly - held.right) / held.seen
        p = min(max(held.right, CERTAIN), 1 - CERTAIN)
        held.odds = np.log(p / (1 - p))
    mixer.weights[weights, KINDS] += error

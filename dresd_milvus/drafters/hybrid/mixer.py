"""The mixer: how likely a token comes next, given all the evidence. It is calibrated while the text goes on.

1. Of each kind of evidence, a candidate token falls into a *cell*: the grade of the evidence for it, its share of the
   evidence of this kind, and the number of rows of this kind. The mixer counts how often tokens of a cell came next.
2. The log-odds of these frequencies are added with weights. There is one set of weights for each set of kinds that say
   something and each range of depth. Weights follow the gradient of the coding cost.
3. A curve maps the sum to how often it was right.

This is context mixing as in PAQ, with its last stage, adaptive probability maps (Mahoney 2005, "Adaptive weighing of
context models for lossless data compression", section 3).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dresd_milvus.compiled import compiled
from dresd_milvus.decoding.tree import Int32
from dresd_milvus.drafters.hybrid.evidence import GRADES, KINDS, Floats

SHARE_EDGES = np.array([0.0, 0.03, 0.1, 0.25, 0.45, 0.65, 0.85, 0.999])
"""Upper ends of the ranges of shares; the last range has none."""

COUNT_EDGES = np.array([1, 2, 5, 15])
"""Upper ends of the ranges of row counts; the last range has none."""

SHARE_RANGES, COUNT_RANGES = len(SHARE_EDGES) + 1, len(COUNT_EDGES) + 1
CELLS = GRADES * SHARE_RANGES * COUNT_RANGES

DEPTH_RANGES = 3
"""Sets of weights differ for the first draft token, for the second and third, and for all later ones."""

REACH_RANGES, BEST_RANGES = 6, 4
"""Curves differ for the first draft token and for five ranges of the parent's reach, and for four ranges of the
log-odds of the best candidate."""

LEAST_FREQUENCY = 1e-4
"""Frequencies are clipped to this and to one minus this."""

MAX_LOG_ODDS = 12.0
"""Log-odds are clipped to this and to minus this."""

WEIGHT_RATE = 0.02
"""Learning rate of the weights."""

CURVE_RATE = 0.005
"""Learning rate of the curves."""

MEMORY = 255
"""A cell's frequency is a mean over at most this many cases; older ones fade."""


class Mixer(NamedTuple):
    """What was learned. The arrays are changed in place.

    right: float64 [KINDS, CELLS], how often a token of the cell came next.
    seen: float64 [KINDS, CELLS], number of cases behind that, at most MEMORY.
    log_odds: float64 [KINDS, CELLS], those of `right`.
    weights: float64 [DEPTH_RANGES * 2^KINDS, KINDS + 1], one set a row; the last column is a bias.
    curves: float64 [REACH_RANGES * BEST_RANGES, 25], the chance at mixed log-odds of -12, -11, ..., 12.
    """

    right: Floats
    seen: Floats
    log_odds: Floats
    weights: Floats
    curves: Floats

    @classmethod
    def untaught(cls) -> Mixer:
        """A mixer that has seen nothing: it trusts shares, and more the better the grade of the evidence is."""
        shares = np.concatenate(([0.003], (SHARE_EDGES[:-1] + SHARE_EDGES[1:]) / 2, [1.0]))
        trust = np.linspace(0.3, 0.95, GRADES)
        right = np.clip(trust[:, None, None] * shares[:, None] * np.ones(COUNT_RANGES), 0.002, 0.97).reshape(-1)
        speaking = (np.arange(2**KINDS)[:, None] >> np.arange(KINDS)) & 1
        weights = speaking / np.maximum(speaking.sum(1, keepdims=True), 1) ** 0.6
        logistic = 1 / (1 + np.exp(MAX_LOG_ODDS - np.arange(2 * MAX_LOG_ODDS + 1)))
        return cls._of(
            np.tile(right, (KINDS, 1)),
            np.full((KINDS, CELLS), 4.0),
            np.tile(np.pad(weights, ((0, 0), (0, 1))), (DEPTH_RANGES, 1)),
            np.tile(logistic, (REACH_RANGES * BEST_RANGES, 1)),
        )

    @classmethod
    def _of(cls, right: Floats, seen: Floats, weights: Floats, curves: Floats) -> Mixer:
        kept = np.clip(right, LEAST_FREQUENCY, 1 - LEAST_FREQUENCY)
        return cls(right, seen, np.log(kept / (1 - kept)), weights, curves)

    @classmethod
    def load(cls, file: Path, cases: float) -> Mixer:
        """What `save` wrote. `seen` is limited to this number of cases, so that new cases soon count more."""
        with np.load(file) as held:
            right, seen, weights, curves = (
                held[name].astype(np.float64) for name in ("right", "seen", "weights", "curve")
            )
        return cls._of(right, np.minimum(seen, cases), weights, curves)

    def save(self, file: Path) -> None:
        """Write it as float32, compressed."""
        right, seen, _, weights, curve = (values.astype(np.float32) for values in self)
        np.savez_compressed(file, right=right, seen=seen, weights=weights, curve=curve)


NO_MIXER = Mixer(*(np.empty((0, 0)),) * 5)
"""In place of a mixer: a token's chance is its share of the evidence. For evidence of one kind, without learning."""


@compiled
def cell_of(grade: int, share: float, count: int) -> int:
    """The cell of a token.

    grade: of the evidence for the token, or where there is none, of the best evidence of this kind. share: of the
    weight of this kind's evidence, 0 to 1. count: rows of this kind.
    """
    share_range = 0
    while share_range < SHARE_RANGES - 1 and share > SHARE_EDGES[share_range]:
        share_range += 1
    count_range = 0
    while count_range < COUNT_RANGES - 1 and count > COUNT_EDGES[count_range]:
        count_range += 1
    return (grade * SHARE_RANGES + share_range) * COUNT_RANGES + count_range


@compiled
def weight_set_of(speaking: int, depth: int) -> int:
    """The row of `Mixer.weights` for a set of kinds (bit k: kind k says something) after a node of this depth."""
    depth_range = 0 if depth == 0 else 1 if depth < 3 else 2
    return speaking + (depth_range << KINDS)


@compiled
def curve_of(depth: int, reach: float, best: float) -> int:
    """The row of `Mixer.curves` for the candidates after a node of this depth and reach.

    best: the highest log-odds of its candidates. Beside a strong candidate the weak ones are right less often.
    """
    reach_range = 0 if depth == 0 else 1 + int(4.99 * min(reach, 1.0))
    best_range = 0 if best < -1.5 else 1 if best < 0 else 2 if best < 1.5 else 3
    return BEST_RANGES * reach_range + best_range


@compiled
def mix(mixer: Mixer, weight_set: int, cells: Int32) -> float:
    """The log-odds of a candidate in cells [KINDS], of which -1 means that this kind says nothing."""
    total = mixer.weights[weight_set, KINDS]
    for kind in range(KINDS):
        if cells[kind] >= 0:
            total += mixer.weights[weight_set, kind] * mixer.log_odds[kind, cells[kind]]
    return min(max(total, -MAX_LOG_ODDS), MAX_LOG_ODDS)


@compiled
def chance_of(mixer: Mixer, curve: int, log_odds: float) -> float:
    """The chance of a candidate with these mixed log-odds: linear between the points of a curve."""
    place = log_odds + MAX_LOG_ODDS
    low = min(int(place), int(2 * MAX_LOG_ODDS) - 1)
    share = place - low
    return (1 - share) * mixer.curves[curve, low] + share * mixer.curves[curve, low + 1]


@compiled
def learn_candidate(mixer: Mixer, weight_set: int, curve: int, log_odds: float, cells: Int32, came: bool) -> None:
    """Learn whether one candidate came next, from what it was mixed with: see `mix` and `chance_of`."""
    truly = 1.0 if came else 0.0
    nearest = int(log_odds + MAX_LOG_ODDS + 0.5)
    mixer.curves[curve, nearest] += (truly - mixer.curves[curve, nearest]) * CURVE_RATE
    error = WEIGHT_RATE * (truly - 1 / (1 + np.exp(-log_odds)))
    for kind in range(KINDS):
        cell = cells[kind]
        if cell < 0:
            continue
        mixer.weights[weight_set, kind] += error * mixer.log_odds[kind, cell]
        mixer.seen[kind, cell] = min(mixer.seen[kind, cell] + 1, MEMORY)
        mixer.right[kind, cell] += (truly - mixer.right[kind, cell]) / mixer.seen[kind, cell]
        kept = min(max(mixer.right[kind, cell], LEAST_FREQUENCY), 1 - LEAST_FREQUENCY)
        mixer.log_odds[kind, cell] = np.log(kept / (1 - kept))
    mixer.weights[weight_set, KINDS] += error

"""What a draft is worth: verify costs measured on this machine, and tokens per millisecond as the measure of all.

A node costs what it adds to the forward pass and earns its reach (see `expansion`). Over a whole text the rate, tokens
per millisecond, is highest if every step takes the tree that maximises tokens - rate * milliseconds (the ratio of two
sums is maximised by Dinkelbach's parametric form, 1967). The same balance says whether a source is worth asking, and
whether to draft at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dresd_milvus.caches import cache_folder
from dresd_milvus.loading import LoadedModel
from dresd_milvus.ranks import Ranks
from dresd_milvus.target import HFTarget
from dresd_milvus.tree import DraftTree

TIMED = (0, 8, 16, 32, 64)
"""Draft nodes of the steps that are timed."""

TIMES, LENGTH = 9, 128
"""How often each is timed, and after how many tokens of text."""


class StepCosts(NamedTuple):
    """ms: milliseconds of verifying a tree by its draft nodes, at least two sizes."""

    ms: dict[int, float]

    def of(self, nodes: int) -> float:
        """Between the sizes that were timed linear, beyond them as the last two go on."""
        at = sorted(self.ms)
        if nodes > at[-1]:
            slope = (self.ms[at[-1]] - self.ms[at[-2]]) / (at[-1] - at[-2])
            return self.ms[at[-1]] + max(slope, 0.0) * (nodes - at[-1])
        return float(np.interp(nodes, at, [self.ms[n] for n in at]))


def measure_costs(target: HFTarget) -> StepCosts:
    """Time the target's steps by their draft nodes, one size after another in turns. Its text is forgotten.

    Of each the lower quartile: what else a machine does only adds to a time.
    """
    found: dict[int, list[float]] = {nodes: [] for nodes in TIMED}
    length = min(LENGTH, target.context // 4)
    for turn in range(TIMES + 1):
        for step, (nodes, times) in enumerate(found.items()):
            # Texts grow: no two steps of decoding have the same shapes.
            target.prefill([1] * (length + len(found) * turn + step))
            # Two children a node: as deep and as wide as drafts are.
            parents = np.concatenate([[-1], np.arange(nodes) // 2]).astype(np.int32)
            tree = DraftTree(np.arange(1, nodes + 2, dtype=np.int32) % max(target.vocab_size, 2), parents)
            begun = perf_counter()
            target.verify(tree)
            if turn:
                times.append(1e3 * (perf_counter() - begun))
    return StepCosts({nodes: round(float(np.percentile(times, 25)), 4) for nodes, times in found.items()})


def step_costs(model: LoadedModel, ranks: Ranks | None = None) -> StepCosts:
    """What steps of this model cost here: as measured before, else measured now and kept in the user's cache.

    Every rank of the model calls it; rank 0's figures are given to all.
    """
    ranks = ranks or Ranks()
    file = _file(model, ranks.world)
    known = ranks.share(lambda: _kept(file))
    if known is None:
        measured = measure_costs(model.target)
        known = ranks.share(lambda: measured)
        if ranks.first:
            with suppress(OSError):  # where nothing can be kept, they are measured again the next time
                file.parent.mkdir(parents=True, exist_ok=True)
                part = file.with_suffix(f".{os.getpid()}.part")
                part.write_text(json.dumps(known.ms))
                part.replace(file)
    return known


def _kept(file: Path) -> StepCosts | None:
    try:
        found = {int(nodes): float(ms) for nodes, ms in json.loads(file.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return StepCosts(found) if len(found) > 1 and min(found.values()) > 0 else None


def _file(model: LoadedModel, ranks: int) -> Path:
    """Named after all that costs depend on."""
    target = model.target
    device = torch.cuda.get_device_name(target.device) if target.device.type == "cuda" else "cpu"
    threads = torch.get_num_threads()
    about = (model.fingerprint, str(target.dtype), device, platform.node(), threads, torch.__version__, ranks)
    name = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    return cache_folder() / "costs" / f"{name}.json"


FORGET = 0.97
"""What the past counts at each step in the rate."""

SLOWLY = 0.1
"""How far an estimate follows what was just seen."""

HOPES = 10.0
"""Tokens on which the trust in drafts rests before any is proved."""

PROMISES = np.array([0.25, 0.5, 1.0, 2.0, 4.0])
"""Drafts are told apart by the expected accepted length of their first eight nodes."""

USUAL, CLEARLY = 16, 0.2
"""The size to begin with, and by how many tokens another must be better than the usual one."""

MOST_TRUSTED = 3.0
"""A step counts at most so many times what was hoped of it."""

PATIENCE, TRIAL = 6, 2
"""Steps that draft before drafting may be given up, and steps of a trial after a pause."""

SHORTEST_PAUSE, LONGEST_PAUSE = 8, 64
"""Steps without a draft between trials: doubled each time."""

SOMETIMES = 24
"""A source that does not pay is asked at one in so many chances; one that pays is weighed at as many."""


class Thrift:
    """Spends time where it pays; told of every step.

    costs: of verifying, as measured before; what is seen while decoding corrects them.
    """

    def __init__(self, costs: StepCosts) -> None:
        self._sizes = np.array(sorted(costs.ms))
        self._at = {size: at for at, size in enumerate(self._sizes.tolist())}
        self._ms: list[float] = np.maximum.accumulate([costs.ms[size] for size in self._at]).tolist()
        self._tokens, self._time = 1.0, self.plain
        self._hoped, self._had = np.full((2, len(PROMISES) + 1), HOPES)
        self._promise = 0
        self._profits = np.where(self._sizes == USUAL, 0.2, 0.0)  # until it is known better
        self._gains: dict[tuple[str, int], float] = {}
        self._prices: dict[str, float] = {}
        self._chances: dict[tuple[str, int], int] = {}
        self._pause = SHORTEST_PAUSE
        self.begin()

    def begin(self) -> None:
        """A text begins: what the last one was like says little, unless drafting was given up for long."""
        hopeless = self._pause == LONGEST_PAUSE
        self._patience = TRIAL if hopeless else PATIENCE
        self._pause = 2 * SHORTEST_PAUSE if hopeless else SHORTEST_PAUSE
        self._left, self._drafted, self._net = 0, 0, 0.0

    @property
    def plain(self) -> float:
        """Milliseconds of a step without a draft."""
        return self._ms[0]

    @property
    def rate(self) -> float:
        """Tokens per millisecond, lately; at least those of plain decoding."""
        return max(self._tokens / self._time, 1 / self.plain)

    @property
    def _trust(self) -> float:
        """What came of what was hoped for of drafts that promised as much as the last one: where little is promised,
        chances come out low."""
        return max(float(self._had[self._promise] / self._hoped[self._promise]), 1 / MOST_TRUSTED)

    @property
    def usual(self) -> int:
        """The size that has paid best of late."""
        return int(self._sizes[int(self._profits.argmax())])

    def weigh(self, reach: NDArray[np.float64]) -> tuple[int, float]:
        """Of draft nodes of these reaches [n], falling, how many to take, and what they earn less what they cost, in
        tokens.

        One of the sizes that were timed, and the usual one unless another is clearly better: a processor's libraries
        are slower at a size that is new to them.
        """
        self._promise = int(np.searchsorted(PROMISES, reach[:8].sum()))
        taken = np.minimum(self._sizes, len(reach))
        earned = self._trust * np.concatenate([[0.0], np.cumsum(reach)])[taken]
        profits = earned - self.rate * (np.interp(taken, self._sizes, self._ms) - self._ms[0])
        self._profits += SLOWLY / 4 * (profits - self._profits)
        usual, best = int(self._profits.argmax()), int(profits.argmax())
        if profits[best] - profits[usual] < CLEARLY:
            best = usual
        return int(self._sizes[best]), float(profits[best])

    def drafts(self) -> bool:
        """Whether this step drafts."""
        self._left = max(self._left - 1, 0)
        return self._left == 0

    def asks(self, source: str, case: int) -> bool:
        """Whether a source is worth asking in such a case (any small number that tells cases apart)."""
        key = (source, case)
        self._chances[key] = self._chances.get(key, 0) + 1
        if key not in self._gains or self._chances[key] % SOMETIMES == 0:
            return True
        return self._gains[key] > self.rate * self._prices[source]

    def weighs(self, source: str, case: int) -> bool:
        """Whether it is time to compare drafts with and without the source."""
        return (source, case) not in self._gains or self._chances[(source, case)] % SOMETIMES == 0

    def weighed(self, source: str, case: int, gain: float) -> None:
        """By how many tokens the source has made a draft better."""
        key = (source, case)
        self._gains[key] = self._gains[key] + 2 * SLOWLY * (gain - self._gains[key]) if key in self._gains else gain

    def paid(self, source: str, milliseconds: float) -> None:
        """What asking a source took."""
        if source not in self._prices:
            self._prices[source] = 0.0  # the first time finds everything cold and is no measure
            return
        price = min(self._prices[source] or milliseconds, 2 * milliseconds)
        self._prices[source] = price + SLOWLY * (min(milliseconds, 4 * price) - price)

    def stepped(self, tokens: int, nodes: int, waited: float, milliseconds: float) -> None:
        """A step gave so many tokens for a draft of so many nodes; the target took so long, and all of the step.

        A machine that is slower than it was is so at all sizes: they all follow a little, and this size more.
        """
        self._tokens = FORGET * self._tokens + tokens
        self._time = FORGET * self._time + milliseconds
        at = self._at.get(nodes)
        if at is not None:
            slower = min(max(waited / self._ms[at], 0.5), 2.0) - 1
            self._ms = [ms * (1 + slower * SLOWLY / 4) for ms in self._ms]
            self._ms[at] *= 1 + slower * SLOWLY / 2

    def drafted(self, nodes: int, expected: float, accepted: int, own: float) -> None:
        """What a draft was: its nodes, the tokens that were hoped for and those that came, and the milliseconds that
        making it and learning from it took.

        What it cost is reckoned by these and the costs of nodes, not by the step's time, which varies by more.
        """
        case = self._promise
        if nodes:
            self._hoped[case] = FORGET * self._hoped[case] + expected
            self._had[case] = FORGET * self._had[case] + min(accepted, MOST_TRUSTED * expected)
        else:  # what is never drafted is never proved: mistrust fades
            self._hoped[case] += SLOWLY * (HOPES - self._hoped[case])
            self._had[case] += SLOWLY * (HOPES - self._had[case])
        extra = float(np.interp(nodes, self._sizes, self._ms)) - self.plain
        net = accepted - (own + max(extra, 0.0)) / self.plain
        self._drafted += 1
        self._net += max(SLOWLY, 1 / self._drafted) * (net - self._net)
        if self._net > 0:
            self._pause, self._patience = SHORTEST_PAUSE, PATIENCE
        elif self._drafted >= self._patience:
            self._left, self._drafted, self._net = self._pause + 1, 0, 0.0
            self._pause, self._patience = min(2 * self._pause, LONGEST_PAUSE), TRIAL

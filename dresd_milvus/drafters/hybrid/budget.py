"""What a draft is worth: verify costs measured on this machine, and tokens per millisecond as the measure of all.

A node costs what it adds to the forward pass and earns its reach (see `expansion`). A step takes the tree that gives
the most tokens per millisecond of this step itself, not of the text as a whole: a token that is not gained here has to
be gained by the next step, where it is as hard, and not where text repeats itself and tokens are cheap. What a source
is worth, and drafting itself, is told by the same measure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.compiled import compiled
from dresd_milvus.costs import StepCosts

FORGET = 0.97
"""What the past counts at each step in the trust."""

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

STAKE, TRIAL, SAVED = 1.0, 0.2, 3.0
"""Tokens that drafting may lose before it is given up: at first, after a pause, and at most, whatever it has earned."""

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
        self._ms = np.maximum.accumulate([costs.ms[size] for size in self._sizes.tolist()])
        self._step = self.plain  # milliseconds, of late
        self._proofs = np.full((2, len(PROMISES) + 1), HOPES)  # by promise, tokens that were hoped for and that came
        self._promise = 0
        self._losses = np.where(self._sizes == USUAL, 0.0, CLEARLY)  # until it is known better
        self._gains: dict[tuple[str, int], float] = {}
        self._prices: dict[str, float] = {}
        self._chances: dict[tuple[str, int], int] = {}
        self._stakes = np.array([STAKE, SHORTEST_PAUSE])  # what drafting may still lose, and the next pause
        self.begin()

    def begin(self) -> None:
        """A text begins: what the last one was like says little, unless drafting was given up for long."""
        hopeless = self._stakes[1] == LONGEST_PAUSE
        self._stakes[:] = (TRIAL, 4 * SHORTEST_PAUSE) if hopeless else (STAKE, SHORTEST_PAUSE)
        self._left = 0

    @property
    def plain(self) -> float:
        """Milliseconds of a step without a draft."""
        return float(self._ms[0])

    @property
    def usual(self) -> int:
        """The size that has paid best of late."""
        return int(self._sizes[int(self._losses.argmin())])

    def weigh(self, reach: NDArray[np.float64]) -> tuple[int, float, float]:
        """Of draft nodes of these reaches [n], falling, how many to take, the tokens per millisecond to expect, and the
        draft tokens that these nodes promise.

        One of the sizes that were timed, and the usual one unless another is clearly better: a processor's libraries
        are slower at a size that is new to them.
        """
        nodes, pace, promised, self._promise = _weigh(reach, self._sizes, self._ms, self._proofs, self._losses)
        return nodes, pace, promised

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
        return self._gains[key] > self._prices[source] / self._step

    def weighs(self, source: str, case: int) -> bool:
        """Whether it is time to compare drafts with and without the source."""
        return (source, case) not in self._gains or self._chances[(source, case)] % SOMETIMES == 0

    def weighed(self, source: str, case: int, gain: float) -> None:
        """By how much of itself the source has made a step's pace faster."""
        key = (source, case)
        self._gains[key] = self._gains[key] + 2 * SLOWLY * (gain - self._gains[key]) if key in self._gains else gain

    def paid(self, source: str, milliseconds: float) -> None:
        """What asking a source took."""
        if source not in self._prices:
            self._prices[source] = 0.0  # the first time finds everything cold and is no measure
            return
        price = min(self._prices[source] or milliseconds, 2 * milliseconds)
        self._prices[source] = price + SLOWLY * (min(milliseconds, 4 * price) - price)

    def paused(self, waited: float, milliseconds: float) -> None:
        """A step did not draft; the target took so long, and all of the step.

        A machine that is slower than it was is so at all sizes: they all follow a little, and those that were timed
        on either side of this more, the nearer the more.
        """
        self._step += SLOWLY * (milliseconds - self._step)
        _correct(0, self._sizes, self._ms, waited)

    def drafted(self, nodes: int, expected: float, accepted: int, waited: float, milliseconds: float) -> None:
        """What a draft was: its nodes, the tokens that were hoped for and those that came; and the same of the step.

        What it cost is reckoned by what making it and learning from it took and by the costs of nodes, not by the
        target's time, which varies by more. Drafting is given up once what it has earned and lost adds up to its stake:
        by the sum, not by a mean, for one good draft pays for several bad ones (cumulative sums: Page 1954, "Continuous
        inspection schemes").
        """
        self._step += SLOWLY * (milliseconds - self._step)
        draft = nodes, expected, accepted, waited, milliseconds
        self._left = _drafted(*draft, self._promise, self._proofs, self._stakes, self._sizes, self._ms)


@compiled
def _drafted(
    nodes: int,
    expected: float,
    accepted: int,
    waited: float,
    milliseconds: float,
    promise: int,
    proofs: NDArray[np.float64],
    stakes: NDArray[np.float64],
    sizes: NDArray[np.int64],
    ms: NDArray[np.float64],
) -> int:
    """See `Thrift.drafted`; for how many steps drafting is given up, the present one counted, 0 for none."""
    hoped, had = proofs[:, promise]
    if nodes:
        hoped, had = FORGET * hoped + expected, FORGET * had + min(accepted, MOST_TRUSTED * expected)
    else:  # what is never drafted is never proved: mistrust fades
        hoped, had = hoped + SLOWLY * (HOPES - hoped), had + SLOWLY * (HOPES - had)
    proofs[0, promise], proofs[1, promise] = hoped, had
    plain, (balance, pause) = ms[0], stakes
    extra = max(_cost(nodes, sizes, ms) - plain, 0.0)
    net = accepted - (min(milliseconds - waited, plain) + extra) / plain  # one late step says nothing of drafts
    _correct(nodes, sizes, ms, waited)
    stakes[0] = min(balance + net, SAVED)
    if stakes[0] >= STAKE:
        stakes[1] = SHORTEST_PAUSE
    elif stakes[0] <= 0:
        stakes[0], stakes[1] = TRIAL, min(2 * pause, LONGEST_PAUSE)
        return int(pause) + 1
    return 0


@compiled
def _promise(reach: NDArray[np.float64]) -> int:
    """Into which of PROMISES draft nodes of these reaches [n] fall."""
    promised, case = reach[:8].sum(), 0
    while case < len(PROMISES) and promised > PROMISES[case]:
        case += 1
    return case


@compiled
def _weigh(
    reach: NDArray[np.float64],
    sizes: NDArray[np.int64],
    ms: NDArray[np.float64],
    proofs: NDArray[np.float64],
    losses: NDArray[np.float64],
) -> tuple[int, float, float, int]:
    """(the size to take, tokens per millisecond with it, draft tokens that it promises, the promise), see
    `Thrift.weigh`; losses [sizes], how many tokens the others have given less than the best in the same time, follow
    what they are now."""
    promise = _promise(reach)
    # What came of what was hoped for of drafts that promised as much: where little is promised, chances come out low.
    trust = max(proofs[1, promise] / proofs[0, promise], 1 / MOST_TRUSTED)
    taken, tokens, pace = 0, 1.0, 0.0
    best, found, took = 0, np.empty(len(sizes)), np.empty(len(sizes))
    for at in range(len(sizes)):
        while taken < min(sizes[at], len(reach)):
            tokens += trust * reach[taken]
            taken += 1
        found[at], took[at] = tokens, _cost(taken, sizes, ms)
        if tokens / took[at] > pace:
            best, pace = at, tokens / took[at]
    lost = pace * took - found
    losses += SLOWLY / 4 * (lost - losses)
    usual = int(losses.argmin())
    chosen = usual if lost[usual] < CLEARLY else best
    return sizes[chosen], found[chosen] / took[chosen], reach[: sizes[chosen]].sum(), promise


@compiled
def _between(nodes: int, sizes: NDArray[np.int64]) -> tuple[int, float]:
    """Which of the sizes that were timed, but the first, is the first not below so many nodes, the last for more; and
    how far these are on the way to it from the one before."""
    at = 1
    while at < len(sizes) - 1 and nodes > sizes[at]:
        at += 1
    return at, min((nodes - sizes[at - 1]) / (sizes[at] - sizes[at - 1]), 1.0)


@compiled
def _cost(nodes: int, sizes: NDArray[np.int64], ms: NDArray[np.float64]) -> float:
    """Milliseconds of a step with so many draft nodes: between the sizes that were timed linear."""
    at, share = _between(nodes, sizes)
    return ms[at - 1] + share * (ms[at] - ms[at - 1])


@compiled
def _correct(nodes: int, sizes: NDArray[np.int64], ms: NDArray[np.float64], waited: float) -> None:
    """See `Thrift.paused`."""
    slower = SLOWLY * (min(max(waited / _cost(nodes, sizes, ms), 0.5), 2.0) - 1)
    at, share = _between(nodes, sizes)
    ms *= 1 + 0.25 * slower
    ms[at - 1] *= 1 + 0.5 * slower * (1 - share)
    ms[at] *= 1 + 0.5 * slower * share

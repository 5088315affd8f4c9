"""The lengths of the drafts of a batch: as many draft tokens in all as give the most tokens per millisecond.

The engine verifies one chain a request, all in one forward pass. What a draft token costs depends on all tokens of that
pass, and what it is worth on its reach (see hybrid.tree_builder). So there is one budget for all requests, spent on the
draft tokens of highest reach wherever they are: the rule of hybrid.budget, for chains of several texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.decoding.step_costs import LearnedCosts
from dresd_milvus.drafters.hybrid.budget import FIRM, MEMORY, PATIENCE

PRIOR = {"cpu": {1: 30.0, 2: 31.5, 4: 35.0, 8: 42.0, 16: 54.0, 32: 78.0, 64: 126.0, 128: 220.0, 256: 410.0, 512: 790.0}}
PRIOR["cuda"] = {1: 30.0, 2: 30.1, 4: 30.3, 8: 30.6, 16: 31.2, 32: 32.5, 64: 35.0, 128: 40.0, 256: 50.0, 512: 80.0}
"""Milliseconds of a forward pass by the tokens in it, before anything was measured. Only the ratios matter."""


class ChainBudget:
    """Chooses how much of each chain is verified.

    costs: of forward passes by the number of tokens in them.
    """

    def __init__(self, costs: LearnedCosts) -> None:
        self.costs = costs
        self._promised = self._accepted = 0.0  # of late, see MEMORY
        self._drafting = 0.0  # milliseconds that drafting takes, of late
        self._idle = 0  # steps in a row in which drafting was not worth its own time
        self._pause = 0  # steps until drafting is tried again

    def drafts(self) -> bool:
        """Whether to draft at this step: after PATIENCE steps in which that was not worth its time, one in as many."""
        self._pause = max(self._pause - 1, 0)
        return self._pause == 0

    @property
    def calibration(self) -> float:
        """Accepted draft tokens of late over those that reaches promised."""
        return (FIRM + self._accepted) / (FIRM + self._promised)

    def choose(self, reaches: Sequence[NDArray[np.float64]]) -> list[int]:
        """The number of draft tokens of every request [B], given the reaches [n] of its chain, which fall."""
        requests = len(reaches)
        owners = np.repeat(np.arange(requests), [len(reach) for reach in reaches])
        worth = np.concatenate(reaches) if requests else np.empty(0)
        order = np.argsort(-worth, kind="stable")  # a token of a chain never comes before the tokens that lead to it
        promised = np.concatenate(([0.0], np.cumsum(worth[order])))
        costs = self.costs.of_each(requests + np.arange(len(promised)))
        tokens = requests + self.calibration * promised
        best = int((tokens / costs).argmax())
        worth = tokens[best] / (costs[best] + self._drafting) > requests / costs[0]
        self._idle = 0 if worth else self._idle + 1
        if self._idle >= PATIENCE:
            self._pause = PATIENCE
        return np.bincount(owners[order[:best]], minlength=requests).tolist()

    def observe_drafting(self, milliseconds: float) -> None:
        """Learn what drafting itself takes."""
        self._drafting += (milliseconds - self._drafting) * (1 - MEMORY if self._drafting else 1)

    def observe(self, promised: float, accepted: int) -> None:
        """Learn from the drafts of a step: the sum of the reaches of the draft tokens, and how many were accepted."""
        self._promised = MEMORY * self._promised + promised
        self._accepted = MEMORY * self._accepted + accepted

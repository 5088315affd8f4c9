"""The size of a draft: the number of nodes that gives the most tokens per millisecond of the step.

A step of n draft nodes gives one token and, of each node, its reach (the chance that the text goes through it, see
`tree_builder`); it takes what the forward pass costs with n more nodes (see decoding.step_costs). Both are estimates,
so both are corrected by what comes: reaches by one ratio, costs by the steps' own times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.decoding.step_costs import StepCosts

MEMORY = 0.97
"""What an earlier draft counts for each later one, in the ratio of accepted to promised tokens: some 30 drafts."""

FIRM = 10.0
"""Tokens that are held to have been promised and accepted before: the ratio begins at 1, and returns to it in time."""

PATIENCE = 8
"""After as many steps in a row without a draft that is worth its time, drafting is tried at one step in as many."""


class AdaptiveBudget:
    """Takes as many draft nodes as give the most tokens per millisecond, and pauses while no draft is worth its time.

    costs: of a step by draft nodes; they are told what every step took.
    """

    def __init__(self, costs: StepCosts) -> None:
        self.costs = costs
        self._promised = self._accepted = 0.0  # of late, see MEMORY
        self._expected = 0.0  # tokens that the nodes of the present step promise
        self._idle = 0  # steps in a row that were tried without a draft that is worth its time
        self._pause = 0  # steps until drafting is tried again
        self._tried = True  # whether the present step was

    def begin(self) -> None:
        """A new text: drafting is tried at once."""
        self._idle = self._pause = 0

    @property
    def calibration(self) -> float:
        """Accepted draft tokens of late over those that reaches promised."""
        return (FIRM + self._accepted) / (FIRM + self._promised)

    def drafts(self) -> bool:
        """Whether to draft at this step."""
        self._pause = max(self._pause - 1, 0)
        self._tried = self._pause == 0
        return self._tried

    def choose(self, reach: NDArray[np.float64]) -> int:
        """How many of the draft nodes with these reaches [n], falling, to verify: a size of the cost table, or all of
        them; 0 where no draft is worth its time, and while the cost of a step without a draft is not known."""
        if self.costs.needs_plain_step:
            return 0
        counts = np.minimum(self.costs.sizes, len(reach))
        promised = np.concatenate(([0.0], np.cumsum(reach)))[counts]
        rates = (1 + self.calibration * promised) / self.costs.of_each(counts)
        best = int(rates.argmax())
        self._expected = float(promised[best])
        self._idle = 0 if counts[best] else self._idle + 1
        if self._idle >= PATIENCE:
            self._pause = PATIENCE
        return int(counts[best])

    def observe(self, nodes: int, accepted: int, milliseconds: float) -> None:
        """Learn from a step: its draft nodes, how many draft tokens were accepted, what its forward pass took."""
        self.costs.observe(nodes, milliseconds)
        # Mistrust fades with every draft, and between pauses, or a draft that is just not worth its time would be soon.
        if nodes or (self._tried and self._idle >= PATIENCE):
            self._promised = MEMORY * self._promised + (self._expected if nodes else 0.0)
            self._accepted = MEMORY * self._accepted + accepted

"""One tree from many sources: every source tells what it knows, and nodes go where the next token most likely is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np

from dresd_milvus.budget import Thrift
from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.drafters.hybrid.evidence import Table
from dresd_milvus.drafters.hybrid.mixer import Mixer
from dresd_milvus.drafters.hybrid.tree_builder import Expansion
from dresd_milvus.recycling import NOTHING, Recycling
from dresd_milvus.tree import DraftTree

PRIOR = Path(__file__).with_name("calibration.npz")
"""What the sample model's drafts taught (benchmarks/calibration.py makes it)."""

PRIOR_CASES = 30
"""The prior weighs as much as so many cases of a session's own."""

AT_LEAST = 16
"""Nodes that are grown to see what they would be worth."""

CASES = (0, 1, 3, 7)
"""Whether a search pays depends on what exact matches say already: on the tokens that match, none, 1, up to 3, to 7."""


class Source(Protocol):
    """Tells what may come next. It never raises for want of data.

    dear: whether asking it takes long enough to be weighed against what it gives. tell: puts what it knows into the
    table; how many of the text's last tokens it has found again. observe: what came.
    """

    name: str
    dear: bool

    def begin(self, prompt: Sequence[int]) -> None: ...
    def tell(self, context: Context, table: Table) -> int: ...
    def observe(self, step: Step) -> None: ...


class Hybrid:
    """Merges what its sources tell into the tree of highest expected accepted length, by chances that it learns.

    What it learns it keeps from text to text. recycling: what the target held likely, looked up by token as a tree
    grows. mixer: what it knows at first, None for the prior. thrift: takes of the budget, and of the sources, only what
    pays; None spends the budget at every step.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        recycling: Recycling | None = None,
        name: str = "hybrid",
        mixer: Mixer | None = None,
        thrift: Thrift | None = None,
    ) -> None:
        self.sources, self.recycling, self.name, self.thrift = tuple(sources), recycling, name, thrift
        self.mixer = mixer or Mixer.load(PRIOR, PRIOR_CASES)
        self.table, self.expansion = Table(), Expansion()
        self._begun = self._drafted = self._expected = 0.0

    def begin(self, prompt: Sequence[int]) -> None:
        for source in self.sources:
            source.begin(prompt)
        if self.thrift:
            self.thrift.begin()
        self.expansion.forget()

    def draft(self, context: Context) -> DraftTree:
        self._begun = perf_counter()
        wanted = context.max_nodes > 0 and context.max_depth > 0
        if not wanted or (self.thrift and not self.thrift.drafts()):
            self._drafted = perf_counter()
            return DraftTree.root_only(context.tokens[-1], self.name)
        self.table.clear()
        longest = max([source.tell(context, self.table) for source in self.sources if not source.dear], default=0)
        for source in self.sources:
            if source.dear:
                self._ask(source, context, bisect_left(CASES, longest))
        reach = self._grow(context)
        nodes, _, self._expected = self.thrift.weigh(reach) if self.thrift else (len(reach), 0.0, 0.0)
        tree = self.expansion.tree(nodes, self.name)
        self._drafted = perf_counter()
        return tree

    def _grow(self, context: Context) -> np.ndarray:
        """The reaches of the draft nodes that the table gives."""
        recycled = self.recycling.recycled if self.recycling else NOTHING
        root, nodes, depth = context.tokens[-1], context.max_nodes, context.max_depth
        if self.thrift:
            nodes = min(nodes, max(2 * self.thrift.usual, AT_LEAST))
        return self.expansion.grow(root, self.table, recycled, self.mixer, nodes, depth)

    def _ask(self, source: Source, context: Context, case: int) -> None:
        """Have a dear source tell if that is worth it in this case; from time to time, find out what it is worth."""
        thrift = self.thrift
        if thrift is None:
            source.tell(context, self.table)
        elif thrift.asks(source.name, case):
            weighs = thrift.weighs(source.name, case)
            without = thrift.weigh(self._grow(context))[1] if weighs else 1.0
            begun = perf_counter()
            source.tell(context, self.table)
            thrift.paid(source.name, 1e3 * (perf_counter() - begun))
            if weighs:
                thrift.weighed(source.name, case, thrift.weigh(self._grow(context))[1] / without - 1)

    def observe(self, step: Step) -> None:
        begun, drafted = perf_counter(), self.expansion.size > 0
        self.expansion.learn(self.mixer, step.new)
        if self.recycling and drafted:  # while drafting pauses, logits are not worth reading
            self.recycling.remember(step.scored, step.tree.tokens, step.path)
        for source in self.sources:
            source.observe(step)
        if self.thrift:
            waited, whole = 1e3 * (begun - self._drafted), 1e3 * (perf_counter() - self._begun)
            if drafted:
                self.thrift.drafted(len(step.tree), self._expected, len(step.new) - 1, waited, whole)
            else:
                self.thrift.paused(waited, whole)

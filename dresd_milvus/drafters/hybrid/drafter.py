"""The hybrid drafter itself; the package's page says how its parts work together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Protocol

from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.drafters.hybrid.budget import Thrift
from dresd_milvus.drafters.hybrid.evidence import Evidence
from dresd_milvus.drafters.hybrid.mixer import Mixer
from dresd_milvus.drafters.hybrid.recycling import NOTHING, Recycling
from dresd_milvus.drafters.hybrid.tree_builder import Grown, grow, learn
from dresd_milvus.tree import DraftTree

PRIOR = Path(__file__).with_name("calibration.npz")
"""What a mixer knows at first: learned from drafts for the sample model (benchmarks/calibration.py writes it)."""

PRIOR_CASES = 30
"""The prior weighs as much as this many cases of a session's own."""

AT_LEAST = 16
"""Draft nodes that are grown at least, to see what they would be worth."""

CASES = (0, 1, 3, 7)
"""Whether a search pays depends on how long the longest exact match is: 0 tokens, 1, up to 3, up to 7, or longer."""


class Source(Protocol):
    """A source of evidence. It never raises for want of data, and reads the text in `context.tokens`.

    name: what the budget knows it by. costly: whether it is asked only where its evidence is worth the time.
    """

    name: str
    costly: bool

    def begin(self, prompt: Sequence[int]) -> None:
        """A new text starts; forget the last one."""
        ...

    def propose(self, context: Context) -> Evidence:
        """What may come next; continuations need not be longer than context.max_depth."""
        ...

    def observe(self, step: Step) -> None:
        """Learn from what came."""
        ...


class Hybrid:
    """Merges the evidence of its sources into the draft tree with the highest expected accepted length.

    What it learns it keeps from text to text. recycling: remembers what the target held likely after each token; None
    for none. mixer: makes chances of evidence; None for the prior. thrift: the budget, which takes only those nodes
    and costly sources that pay; None for all nodes and all sources at every step.
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
        self._grown: Grown | None = None  # the tree of this step; None where nothing is drafted
        self._begun = self._drafted = self._expected = 0.0

    def begin(self, prompt: Sequence[int]) -> None:
        for source in self.sources:
            source.begin(prompt)
        if self.thrift:
            self.thrift.begin()
        self._grown = None

    def draft(self, context: Context) -> DraftTree:
        self._begun, self._grown = perf_counter(), None
        tree = DraftTree.root_only(context.tokens[-1], self.name)
        wanted = context.max_nodes > 0 and context.max_depth > 0
        if wanted and (self.thrift is None or self.thrift.drafts()):
            self._grown = self._grow(context, self._gather(context))
            reach = self._grown.reach[1:]
            nodes, _, self._expected = self.thrift.weigh(reach) if self.thrift else (len(reach), 0.0, 0.0)
            tree = self._grown.tree(nodes, self.name)
        self._drafted = perf_counter()
        return tree

    def observe(self, step: Step) -> None:
        begun, drafted = perf_counter(), self._grown is not None
        if self._grown:
            learn(self.mixer, self._grown, step.new)
            self._grown = None
            if self.recycling:  # while drafting pauses, logits are not worth reading
                self.recycling.remember(step.scored, step.tree.tokens, step.path)
        for source in self.sources:
            source.observe(step)
        if self.thrift:
            waited, whole = 1e3 * (begun - self._drafted), 1e3 * (perf_counter() - self._begun)
            if drafted:
                self.thrift.drafted(len(step.tree), self._expected, len(step.new) - 1, waited, whole)
            else:
                self.thrift.paused(waited, whole)

    def _gather(self, context: Context) -> Evidence:
        """The evidence of the cheap sources, and of those costly ones that pay beside it."""
        found = Evidence.join([source.propose(context) for source in self.sources if not source.costly])
        case = bisect_left(CASES, found.longest_match)
        for source in self.sources:
            if source.costly:
                found = self._ask(source, context, found, case)
        return found

    def _ask(self, source: Source, context: Context, found: Evidence, case: int) -> Evidence:
        """What was found, with the evidence of a costly source if that pays in this case of CASES.

        From time to time the budget wants to know what the source is worth: the draft is compared with and without it.
        """
        thrift = self.thrift
        if thrift is None:
            return Evidence.join([found, source.propose(context)])
        if not thrift.asks(source.name, case):
            return found
        compared = thrift.weighs(source.name, case)
        without = thrift.weigh(self._grow(context, found).reach[1:])[1] if compared else 1.0
        begun = perf_counter()
        found = Evidence.join([found, source.propose(context)])
        thrift.paid(source.name, 1e3 * (perf_counter() - begun))
        if compared:
            gain = thrift.weigh(self._grow(context, found).reach[1:])[1] / without - 1
            thrift.weighed(source.name, case, gain)
        return found

    def _grow(self, context: Context, evidence: Evidence) -> Grown:
        """The tree of this evidence, and of what recycling remembers."""
        recycled = self.recycling.recycled if self.recycling else NOTHING
        nodes = context.max_nodes
        if self.thrift:
            nodes = min(nodes, max(2 * self.thrift.usual, AT_LEAST))
        return grow(context.tokens[-1], evidence, recycled, self.mixer, nodes, context.max_depth)

"""The hybrid drafter itself; the package's page says how its parts work together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.drafters.hybrid.budget import AdaptiveBudget
from dresd_milvus.drafters.hybrid.evidence import Evidence
from dresd_milvus.drafters.hybrid.mixer import Mixer
from dresd_milvus.drafters.hybrid.recycling import NOTHING, Recycling
from dresd_milvus.drafters.hybrid.tree_builder import Grown, grow, learn

PRIOR = Path(__file__).with_name("calibration.npz")
"""What a mixer knows at first: learned from drafts for the sample model (benchmarks/calibration.py writes it)."""

PRIOR_CASES = 30
"""The prior weighs as much as this many cases of a session's own."""


class Source(Protocol):
    """A source of evidence. It never raises for want of data, and reads the text in `context.tokens`."""

    name: str

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
    for none. mixer: makes chances of evidence; None for the prior. adaptive: chooses how many nodes of each step's
    budget are verified; None spends the whole budget at every step.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        recycling: Recycling | None = None,
        name: str = "hybrid",
        mixer: Mixer | None = None,
        adaptive: AdaptiveBudget | None = None,
    ) -> None:
        self.sources, self.recycling, self.name, self.adaptive = tuple(sources), recycling, name, adaptive
        self.mixer = mixer or Mixer.load(PRIOR, PRIOR_CASES)
        self._grown: Grown | None = None  # the tree of this step; None where nothing is drafted

    def begin(self, prompt: Sequence[int]) -> None:
        for source in self.sources:
            source.begin(prompt)
        if self.adaptive:
            self.adaptive.begin()
        self._grown = None

    def draft(self, context: Context) -> DraftTree:
        self._grown, root = None, context.tokens[-1]
        wanted = context.max_nodes > 0 and context.max_depth > 0
        if not wanted or (self.adaptive and not self.adaptive.drafts()):
            return DraftTree.root_only(root, self.name)
        evidence = Evidence.join([source.propose(context) for source in self.sources])
        recycled = self.recycling.recycled if self.recycling else NOTHING
        self._grown = grow(root, evidence, recycled, self.mixer, context.max_nodes, context.max_depth)
        reach = self._grown.reach[1:]
        return self._grown.tree(self.adaptive.choose(reach) if self.adaptive else len(reach), self.name)

    def observe(self, step: Step) -> None:
        if self._grown:
            learn(self.mixer, self._grown, step.new)
            self._grown = None
            if self.recycling:  # while drafting pauses, logits are not worth reading
                self.recycling.remember(step.scored, step.tree.tokens, step.path)
        for source in self.sources:
            source.observe(step)
        if self.adaptive and step.seconds is not None:
            self.adaptive.observe(len(step.tree), len(step.new) - 1, 1e3 * step.seconds)

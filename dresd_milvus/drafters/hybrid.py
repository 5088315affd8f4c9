"""One tree from many sources: every source tells what it knows, and nodes go where the next token most likely is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from dresd_milvus.budget import AdaptiveBudget
from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.evidence import Table
from dresd_milvus.expansion import Expansion
from dresd_milvus.mixing import Mixer
from dresd_milvus.recycling import NOTHING, Recycling
from dresd_milvus.tree import DraftTree

PRIOR = Path(__file__).with_name("calibration.npz")
"""What the sample model's drafts taught (benchmarks/calibration.py makes it)."""

PRIOR_CASES = 30
"""The prior weighs as much as so many cases of a session's own."""


class Source(Protocol):
    """Tells what may come next. It never raises for want of data.

    tell: puts what it knows into the table; how many of the text's last tokens it has found again. observe: what came.
    """

    name: str

    def begin(self, prompt: Sequence[int]) -> None: ...
    def tell(self, context: Context, table: Table) -> int: ...
    def observe(self, step: Step) -> None: ...


class Hybrid:
    """Merges what its sources tell into the tree of highest expected accepted length, by chances that it learns.

    What it learns it keeps from text to text. recycling: what the target held likely, looked up by token as a tree
    grows. mixer: what it knows at first, None for the prior. adaptive: chooses how many nodes of each step's budget are
    verified; None spends the whole budget at every step.
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
        self.table, self.expansion = Table(), Expansion()

    def begin(self, prompt: Sequence[int]) -> None:
        for source in self.sources:
            source.begin(prompt)
        if self.adaptive:
            self.adaptive.begin()
        self.expansion.forget()

    def draft(self, context: Context) -> DraftTree:
        wanted = context.max_nodes > 0 and context.max_depth > 0
        if not wanted or (self.adaptive and not self.adaptive.drafts()):
            return DraftTree.root_only(context.tokens[-1], self.name)
        self.table.clear()
        for source in self.sources:
            source.tell(context, self.table)
        recycled = self.recycling.recycled if self.recycling else NOTHING
        root, nodes, depth = context.tokens[-1], context.max_nodes, context.max_depth
        reach = self.expansion.grow(root, self.table, recycled, self.mixer, nodes, depth)
        return self.expansion.tree(self.adaptive.choose(reach) if self.adaptive else len(reach), self.name)

    def observe(self, step: Step) -> None:
        drafted = self.expansion.size > 0
        self.expansion.learn(self.mixer, step.new)
        if self.recycling and drafted:  # while drafting pauses, logits are not worth reading
            self.recycling.remember(step.scored, step.tree.tokens, step.path)
        for source in self.sources:
            source.observe(step)
        if self.adaptive and step.seconds is not None:
            self.adaptive.observe(len(step.tree), len(step.new) - 1, 1e3 * step.seconds)

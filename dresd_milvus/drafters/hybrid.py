"""One tree from many sources: every source tells what it knows, and nodes go where the next token most likely is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from dresd_milvus.drafters.base import Context, Step
from dresd_milvus.drafters.recycling import Recycling
from dresd_milvus.evidence import Evidence
from dresd_milvus.expansion import Expansion, Recycled
from dresd_milvus.mixing import Mixer
from dresd_milvus.tree import DraftTree

PRIOR = Path(__file__).with_name("calibration.npz")
"""What the sample model's drafts taught (benchmarks/calibration.py makes it)."""

PRIOR_CASES = 30
"""The prior weighs as much as so many cases of a session's own."""


class Source(Protocol):
    """Tells what may come next. It never raises for want of data."""

    name: str

    def begin(self, prompt: Sequence[int]) -> None: ...
    def tell(self, context: Context) -> list[Evidence]: ...
    def observe(self, step: Step) -> None: ...


class Hybrid:
    """Merges what its sources tell into the tree of highest expected accepted length, by chances that it learns.

    What it learns it keeps from text to text. mixer: what it knows at first, None for the prior.
    """

    def __init__(self, sources: Sequence[Source], name: str = "hybrid", mixer: Mixer | None = None) -> None:
        self.sources, self.name = tuple(sources), name
        self.recycling = next((source for source in sources if isinstance(source, Recycling)), None)
        self.mixer = mixer or (Mixer.load(PRIOR, PRIOR_CASES) if PRIOR.exists() else Mixer.untaught())
        self.expansion = Expansion()

    def begin(self, prompt: Sequence[int]) -> None:
        for source in self.sources:
            source.begin(prompt)

    def draft(self, context: Context) -> DraftTree:
        root = context.tokens[-1]
        if context.max_nodes <= 0 or context.max_depth <= 0:
            return DraftTree.root_only(root, self.name)
        told = [evidence for source in self.sources for evidence in source.tell(context)]
        evidence = Evidence.join(told, context.max_depth)
        recycled = self.recycling.recycled if self.recycling else Recycled.nothing()
        self.expansion.grow(root, evidence, recycled, self.mixer, context.max_nodes, context.max_depth)
        return self.expansion.tree(context.max_nodes, self.name)

    def observe(self, step: Step) -> None:
        self.expansion.learn(self.mixer, step.new)
        for source in self.sources:
            source.observe(step)

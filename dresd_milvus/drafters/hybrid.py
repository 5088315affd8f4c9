"""One tree from many sources: every source tells what it knows, and nodes go where the next token most likely is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np

from dresd_milvus.budget import Thrift
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

CASES = (0, 1, 3, 7)
"""Whether a search pays depends on what exact matches say already: on the tokens that match, none, 1, up to 3, to 7."""


class Source(Protocol):
    """Tells what may come next. It never raises for want of data.

    dear: whether asking it takes long enough to be weighed against what it gives. observe(step): what came.
    """

    name: str
    dear: bool

    def begin(self, prompt: Sequence[int]) -> None: ...
    def tell(self, context: Context) -> list[Evidence]: ...
    def observe(self, step: Step) -> None: ...


class Hybrid:
    """Merges what its sources tell into the tree of highest expected accepted length, by chances that it learns.

    What it learns it keeps from text to text. mixer: what it knows at first, None for the prior. thrift: takes of the
    budget, and of the sources, only what pays; None spends the budget at every step.
    """

    def __init__(
        self, sources: Sequence[Source], name: str = "hybrid", mixer: Mixer | None = None, thrift: Thrift | None = None
    ) -> None:
        self.sources, self.name, self.thrift = tuple(sources), name, thrift
        self.recycling = next((source for source in sources if isinstance(source, Recycling)), None)
        self.mixer = mixer or Mixer.load(PRIOR, PRIOR_CASES)
        self.expansion = Expansion()
        self._begun = self._expected = 0.0

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
            return DraftTree.root_only(context.tokens[-1], self.name)
        told = [evidence for source in self.sources if not source.dear for evidence in source.tell(context)]
        told += self._dear(context, told)
        reach = self._grow(context, told)
        nodes = int(self.thrift.profits(reach).argmax()) if self.thrift else len(reach)
        self._expected = float(reach[:nodes].sum())
        return self.expansion.tree(nodes, self.name)

    def _grow(self, context: Context, told: Sequence[Evidence]) -> np.ndarray:
        """The reaches of the draft nodes that this evidence gives."""
        recycled = self.recycling.recycled if self.recycling else Recycled.nothing()
        evidence = Evidence.join(told, context.max_depth)
        root, nodes, depth = context.tokens[-1], context.max_nodes, context.max_depth
        floor = self.thrift.floor if self.thrift else 0.0
        return self.expansion.grow(root, evidence, recycled, self.mixer, nodes, depth, floor)

    def _dear(self, context: Context, told: Sequence[Evidence]) -> list[Evidence]:
        """What the dear sources tell that are worth asking, given what the others have told."""
        found: list[Evidence] = []
        longest = max((int(evidence.quality.max(initial=0)) for evidence in told), default=0)
        case = int(np.searchsorted(CASES, longest))
        for source in self.sources:
            if not source.dear or (self.thrift and not self.thrift.asks(source.name, case)):
                continue
            begun = perf_counter()
            more = source.tell(context)
            if self.thrift:
                self.thrift.paid(source.name, 1e3 * (perf_counter() - begun))
                if self.thrift.weighs(source.name, case):
                    without = self.thrift.profits(self._grow(context, [*told, *found])).max()
                    profit = self.thrift.profits(self._grow(context, [*told, *found, *more])).max()
                    self.thrift.weighed(source.name, case, profit - without)
            found += more
        return found

    def observe(self, step: Step) -> None:
        expected = self._expected if self.expansion.size > 0 else None
        self.expansion.learn(self.mixer, step.new)
        for source in self.sources:
            source.observe(step)
        if self.thrift:
            self.thrift.stepped(len(step.new), expected, 1e3 * (perf_counter() - self._begun))

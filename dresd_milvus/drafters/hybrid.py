"""Several drafters' paths in one tree: a node weighs what its sources say together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dresd_milvus.drafters.base import Context, PathDrafter, Step
from dresd_milvus.tree import DraftTree, Paths

TRUST = {"dense": 0.2}
"""How likely a part's whole proposal is held to be right where it does not say itself: dense votes sum to 1 however far
the neighbours are. A prior; 0.1 to 0.3 draft alike, 1 is worse than the suffix part alone (docs/lab-log.md)."""


class Hybrid:
    """Merges the proposals of its parts by path probability (noisy-or, see DraftTree.merge) within one budget."""

    def __init__(self, parts: Sequence[PathDrafter], name: str = "hybrid") -> None:
        self.parts, self.name = tuple(parts), name

    def begin(self, prompt: Sequence[int]) -> None:
        for part in self.parts:
            part.begin(prompt)

    def draft(self, context: Context) -> DraftTree:
        root = context.tokens[-1]
        if context.max_nodes <= 0 or context.max_depth <= 0:
            return DraftTree.root_only(root, self.name)
        proposals = [Paths(p.tokens, TRUST.get(part.name, 1.0) * p.weights) for part, p in self._ask(context)]
        return DraftTree.merge(root, proposals, context.max_nodes, context.max_depth, self.name)

    def _ask(self, context: Context) -> Iterator[tuple[PathDrafter, Paths]]:
        return ((part, part.propose(context)) for part in self.parts)

    def observe(self, step: Step) -> None:
        for part in self.parts:
            part.observe(step)

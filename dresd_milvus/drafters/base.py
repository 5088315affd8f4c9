"""Plain decoding as a drafter, and the base class of drafters that propose weighted paths.

The protocol of drafters is `decoding.protocols.Drafter`.
"""

from __future__ import annotations

from collections.abc import Sequence

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.tree import DraftTree, Paths


class Vanilla:
    """Drafts nothing: plain decoding, one token a step, through the same loop."""

    name = "vanilla"

    def begin(self, prompt: Sequence[int]) -> None:
        pass

    def draft(self, context: Context) -> DraftTree:
        return DraftTree.root_only(context.tokens[-1], self.name)

    def observe(self, step: Step) -> None:
        pass


class PathDrafter:
    """Base class of drafters that propose weighted paths. The draft is the tree of the nodes with the highest weight.

    A subclass sets `name` and implements `propose`.
    """

    name = ""

    def begin(self, prompt: Sequence[int]) -> None:
        pass

    def observe(self, step: Step) -> None:
        pass

    def propose(self, context: Context) -> Paths:
        """Paths of tokens after the root, context.tokens[-1]; their weights are estimated probabilities (see Paths)."""
        raise NotImplementedError

    def draft(self, context: Context) -> DraftTree:
        root = context.tokens[-1]
        if context.max_nodes <= 0 or context.max_depth <= 0:
            return DraftTree.root_only(root, self.name)
        return DraftTree.from_paths(root, *self.propose(context), context.max_nodes, context.max_depth, self.name)

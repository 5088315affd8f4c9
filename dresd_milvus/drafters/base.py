"""Plain decoding as a drafter, and the base of drafters that retrieve paths (protocol: decoding.protocols)."""

from __future__ import annotations

from collections.abc import Sequence

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.tree import DraftTree, Paths


class Vanilla:
    """Drafts nothing: plain decoding, one token a step, through the same loop and verifier."""

    name = "vanilla"

    def begin(self, prompt: Sequence[int]) -> None:
        pass

    def draft(self, context: Context) -> DraftTree:
        return DraftTree.root_only(context.tokens[-1], self.name)

    def observe(self, step: Step) -> None:
        pass


class PathDrafter:
    """Base of the drafters that retrieve: they propose weighted paths, whose heaviest nodes are the draft."""

    name = ""

    def begin(self, prompt: Sequence[int]) -> None:
        pass

    def observe(self, step: Step) -> None:
        pass

    def propose(self, context: Context) -> Paths:
        """Paths after the root; each weighs how likely it is held to be, and together they sum to at most 1."""
        raise NotImplementedError

    def draft(self, context: Context) -> DraftTree:
        root = context.tokens[-1]
        if context.max_nodes <= 0 or context.max_depth <= 0:
            return DraftTree.root_only(root, self.name)
        return DraftTree.from_paths(root, *self.propose(context), context.max_nodes, context.max_depth, self.name)

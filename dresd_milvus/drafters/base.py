"""What a drafter is: something that guesses the next tokens and is told what became of the guess."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from dresd_milvus.host import Scored
from dresd_milvus.tree import DraftTree, Int64, Paths


class Context(NamedTuple):
    """What a drafter may use.

    tokens:    the text so far, prompt included; tokens[-1] is the root of the draft. Not to be changed.
    states:    [..., H], the target's last hidden states, of which the one at `node` produced tokens[-1]; None where
               there is none yet.
    max_nodes: draft nodes at most (the root is not counted). max_depth: tokens on one path at most.
    """

    tokens: Sequence[int]
    states: Tensor | None
    max_nodes: int
    max_depth: int
    node: int = 0

    @property
    def hidden(self) -> Tensor | None:
        """[H], the state that produced tokens[-1]."""
        return None if self.states is None else self.states.view(-1, self.states.shape[-1])[self.node]


class Step(NamedTuple):
    """What became of a draft.

    tokens: the text after the step. new: int64 [n], what the step emitted. tree and path: the draft and the nodes of it
    that gave them, int64 [n], the root first. scored: the target's logits [N, V] and hidden states [N, H] at
    the tree's nodes. seconds: what the forward pass and the picks took; None where the target was not run.
    """

    tokens: Sequence[int]
    new: Int64
    tree: DraftTree
    path: Int64
    scored: Scored
    seconds: float | None = None


class Drafter(Protocol):
    """Proposes a tree rooted at the last committed token.

    draft() never raises for want of data: it answers with the root alone.
    """

    name: str

    def begin(self, prompt: Sequence[int]) -> None:
        """A new text starts; forget the last one."""
        ...

    def draft(self, context: Context) -> DraftTree: ...

    def observe(self, step: Step) -> None:
        """Learn from what was accepted."""
        ...


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

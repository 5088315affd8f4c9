"""What the decoding loop is given, as protocols: a target, a drafter, a budget; and what passes between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree, Int64


class Target(Protocol):
    """A language model with a cache. Texts are token ids; a batch is one text."""

    eos_ids: frozenset[int]
    vocab_size: int
    hidden_size: int
    context: int

    def prefill(self, tokens: Sequence[int], reuse: bool = False) -> Tensor | None:
        """Forget the last text, read this one; the hidden state [H] after its last token, None if it is empty.

        reuse: what both texts begin with is not read again, as in a conversation."""
        ...

    def verify(self, tree: DraftTree) -> Scored:
        """Score all nodes in one pass; each node sees the committed text and its own ancestors."""
        ...

    def room(self, prompt: int) -> int:
        """How many tokens may follow a prompt of so many: up to the end of the context, or of the part of it in which
        a text can go on as it began."""
        ...

    def keep(self, path: Int64) -> None:
        """Commit these nodes [n] of the last verified tree (root first)."""
        ...


class Budget(Protocol):
    """How large a step's draft may be: nodes (root not counted) and depth (tokens on one path)."""

    @property
    def nodes(self) -> int: ...
    @property
    def depth(self) -> int: ...


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

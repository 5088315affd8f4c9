"""The protocols of the decoding loop: a target, a drafter and a budget; and the records that pass between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree, Int64


class Target(Protocol):
    """The language model that verifies drafts, with a key-value cache of one text.

    The cache holds the committed tokens: those of the last `prefill`, then those of every `commit`. `verify` computes
    on top of them and commits nothing.

    eos_ids: the tokens that end a text. vocab_size: logits of a token (V). hidden_size: numbers of a hidden state (H).
    context: the most tokens that a text may have, prompt included.
    """

    eos_ids: frozenset[int]
    vocab_size: int
    hidden_size: int
    context: int

    def prefill(self, tokens: Sequence[int], reuse_prefix: bool = False) -> Tensor | None:
        """Replace the committed text by these token ids; returns the hidden state [H] after the last, None without one.

        reuse_prefix: keep the cache of the tokens with which the committed text and this one both begin (prefix
        caching). A conversation uses it.
        """
        ...

    def verify(self, tree: DraftTree) -> Scored:
        """Compute logits and hidden states of all nodes in one forward pass.

        A node attends to the committed text, to its ancestors and to itself, as if its path were the text.
        """
        ...

    def commit(self, path: Int64) -> None:
        """Append the tokens of a path to the committed text.

        path: int64 [n], nodes of the tree of the last `verify`, each the parent of the next, the root first.
        """
        ...

    def context_left(self, prompt: int) -> int:
        """The most tokens that may follow a prompt of this length (in tokens).

        The context ends them; with some models, a part of the context that the text cannot leave (see HFTarget).
        """
        ...


class Budget(Protocol):
    """The largest draft of a step: nodes (without the root) and depth (tokens on one path)."""

    @property
    def nodes(self) -> int: ...
    @property
    def depth(self) -> int: ...


class Context(NamedTuple):
    """The input of a drafter.

    tokens:    the text so far, prompt included; tokens[-1] is the root of the draft. Read only.
    states:    the target's hidden states [..., H] of the last forward pass; None before the first.
    max_nodes: the most draft nodes (without the root).
    max_depth: the most tokens on one path.
    node:      the row of `states` that produced tokens[-1].
    """

    tokens: Sequence[int]
    states: Tensor | None
    max_nodes: int
    max_depth: int
    node: int = 0

    @property
    def hidden(self) -> Tensor | None:
        """The hidden state [H] that produced tokens[-1]; None before the first forward pass."""
        return None if self.states is None else self.states.view(-1, self.states.shape[-1])[self.node]


class Step(NamedTuple):
    """The result of one step.

    tokens:  the text after the step, prompt included.
    new:     int64 [n], the tokens that the step emitted.
    tree:    the draft.
    path:    int64 [n], the accepted nodes, the root first; `new` holds the target's token after each of them.
    scored:  logits [N, V] and hidden states [N, H] of all nodes of the tree.
    seconds: time of the forward pass, the picks and the commit; None when the target did not run.
    """

    tokens: Sequence[int]
    new: Int64
    tree: DraftTree
    path: Int64
    scored: Scored
    seconds: float | None = None


class Drafter(Protocol):
    """Proposes a tree of tokens after the last committed one.

    A drafter that finds nothing returns the root alone; it raises no error for that.
    """

    name: str

    def begin(self, prompt: Sequence[int]) -> None:
        """Start a new text with these token ids; forget the last text."""
        ...

    def draft(self, context: Context) -> DraftTree:
        """A tree whose root is context.tokens[-1], within max_nodes and max_depth."""
        ...

    def observe(self, step: Step) -> None:
        """Learn from the result of the step that this drafter's tree was verified in."""
        ...

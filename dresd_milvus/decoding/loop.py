"""Speculative decoding: draft a tree, verify it in one forward pass, commit the tokens that the target itself picks.

A step (see `decode`):
1. The drafter proposes a tree of tokens; its root is the last token of the text.
2. The target computes the logits of all nodes in one forward pass.
3. The walk begins at the root. The sampler picks the target's token after the current node; if a child carries that
   token, the walk moves to the child. The first pick that no child carries ends the walk; it is the bonus token.
4. The target commits the nodes of the walk. The picks are appended to the text.

The output is lossless for every drafter and every sampler: each emitted token is the target's own pick at its position
(see `sampling`). The draft only decides how many tokens one forward pass yields. The loop depends on protocols only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

import torch

from dresd_milvus.decoding.protocols import Budget, Context, Drafter, Step, Target
from dresd_milvus.decoding.sampling import GumbelSampler, Sampler
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.defaults import DEPTH
from dresd_milvus.errors import InputError

StopsAt = Callable[[int], bool]
"""Takes every token of a text in turn, end tokens apart; whether the text ends with it."""


class FixedBudget(NamedTuple):
    """A budget that is the same at every step: nodes without the root, depth in tokens."""

    nodes: int = 16
    depth: int = DEPTH


class StepRecord(NamedTuple):
    """The numbers of one step; times in seconds.

    nodes, depth: size of the drafted tree, 0 without a draft. accepted: emitted tokens minus one, so that MAT is always
    tokens / steps; where a text ends within a draft, its last token counts as the bonus.
    draft: time of the drafter. verify: of the forward pass. choose: of the picks and the commit (results on disk have
    this name too). total: of the whole step.
    """

    nodes: int
    depth: int
    accepted: int
    draft: float
    verify: float
    choose: float
    total: float

    @classmethod
    def of(
        cls, tree: DraftTree, accepted: int, begun: float, drafted: float, verified: float, kept: float, done: float
    ) -> StepRecord:
        """The record of a step with this tree and number of accepted tokens; the other arguments are clock times in
        seconds: the start of the step, then the ends of draft, forward pass, commit and step."""
        depth = int(tree.depths().max())
        return cls(len(tree), depth, accepted, drafted - begun, verified - drafted, kept - verified, done - begun)


@dataclass
class Generation:
    """One generated text.

    tokens: the tokens after the prompt, an end token included. steps: one record a step. reason: why the text ended,
    'eos', 'length', 'context' or the caller's own; '' while it goes on. prefill, decoding: seconds.
    """

    tokens: list[int] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    reason: str = ""
    prefill: float = 0.0
    decoding: float = 0.0

    @property
    def answer(self) -> list[int]:
        """The tokens, without the end token if there is one."""
        return self.tokens[:-1] if self.reason == "eos" else self.tokens

    @property
    def accept_lengths(self) -> list[int]:
        """Accepted draft tokens of every step, without the bonus."""
        return [step.accepted for step in self.steps]

    @property
    def mat(self) -> float:
        """Mean emitted tokens per step, bonus included; 1.00 for plain decoding."""
        return len(self.tokens) / max(len(self.steps), 1)

    @property
    def hit_rate(self) -> float:
        """Share of steps that had a draft."""
        return sum(step.nodes > 0 for step in self.steps) / max(len(self.steps), 1)

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed, without prefill."""
        return len(self.tokens) / self.decoding if self.decoding else 0.0


class Stop:
    """Decides where the text ends: at an end token, where `stops_at` says so, at max_new_tokens, or where the
    model's context is full.

    context_left: tokens until the context is full. limit: tokens that may still come. reason: '' until the text ends.
    """

    def __init__(
        self, eos_ids: frozenset[int], max_new_tokens: int, context_left: int, stops_at: StopsAt | None
    ) -> None:
        self.eos_ids, self.stops_at = eos_ids, stops_at
        self.limit = min(max_new_tokens, context_left)
        self.limit_reason = "length" if max_new_tokens <= context_left else "context"
        self.reason = self.limit_reason if self.limit <= 0 else ""

    def take(self, tokens: list[int]) -> int:
        """The number of a step's tokens that belong to the text; sets `reason` if the text ends with them."""
        for index, token in enumerate(tokens[: self.limit]):
            if token in self.eos_ids:
                self.reason = "eos"
                return index + 1
            if self.stops_at and self.stops_at(token):
                self.reason = "stop"
                return index + 1
        taken = min(len(tokens), self.limit)
        self.limit -= taken
        if self.limit == 0:
            self.reason = self.limit_reason
        return taken


@torch.inference_mode()
def decode(
    target: Target,
    drafter: Drafter,
    sampler: Sampler,
    prompt: Sequence[int],
    max_new_tokens: int,
    budget: Budget,
    result: Generation,
    reuse_prefix: bool = False,
    stops_at: StopsAt | None = None,
) -> Iterator[Step]:
    """Continue a prompt (token ids, not empty) by at most max_new_tokens; yields every step when it ends.

    result: an empty Generation, filled in when the text ends; a caller that sets its `reason` ends the text.
    reuse_prefix: see Target.prefill. stops_at: ends the text at a token, also within a draft.
    Raises InputError for an empty prompt and for one that fills the model's context.
    """
    check_prompt(target, prompt)
    tokens = list(prompt)
    stop = Stop(target.eos_ids, max_new_tokens, target.context_left(len(prompt)), stops_at)
    steps = list[tuple[DraftTree, int, float, float, float, float, float]]()
    start = perf_counter()
    states, node = target.prefill(tokens[:-1], reuse_prefix), 0
    drafter.begin(tokens)
    begun, result.reason = perf_counter(), stop.reason

    while not result.reason:  # invariant: the target's cache holds tokens[:-1]
        drafting = perf_counter()
        depth = min(budget.depth, stop.limit - 1)  # deeper nodes could not be emitted: the bonus takes one token
        tree = drafter.draft(Context(tokens, states, budget.nodes if depth > 0 else 0, depth, node))
        verifying = perf_counter()
        scored = target.verify(tree)
        choosing = perf_counter()
        path, picks = sampler.walk(tree, scored, tokens)
        new = picks.tolist()
        taken = stop.take(new)
        if taken < len(new):
            path, picks, new = path[:taken], picks[:taken], new[:taken]
        target.commit(path)
        tokens += new
        states, node = scored.states, int(path[-1])
        kept = perf_counter()
        drafter.observe(step := Step(tokens, picks, tree, path, scored, kept - verifying))
        steps.append((tree, taken - 1, drafting, verifying, choosing, kept, perf_counter()))
        result.reason = stop.reason
        yield step

    result.tokens = tokens[len(prompt) :]
    result.prefill, result.decoding = begun - start, perf_counter() - begun
    result.steps = [StepRecord.of(*step) for step in steps]  # depths are counted here, not in timed steps


def generate(
    target: Target,
    drafter: Drafter,
    sampler: Sampler,
    prompt: Sequence[int],
    max_new_tokens: int,
    budget: Budget,
    on_step: Callable[[Step], bool | None] | None = None,
    reuse_prefix: bool = False,
    stops_at: StopsAt | None = None,
) -> Generation:
    """Continue a prompt to its end; arguments and errors are those of `decode`.

    on_step: called with every step when it ends; the text ends there if it returns True (reason 'interrupt').
    """
    result = Generation()
    for step in decode(target, drafter, sampler, prompt, max_new_tokens, budget, result, reuse_prefix, stops_at):
        if on_step and on_step(step):
            result.reason = result.reason or "interrupt"
    return result


def check_prompt(target: Target, prompt: Sequence[int]) -> None:
    """Raise InputError for a prompt (token ids) that is empty or fills the model's context."""
    if not prompt:
        raise InputError("the prompt is empty; a model needs at least one token to continue")
    if len(prompt) >= target.context:
        raise InputError(
            f"the prompt has {len(prompt)} tokens and the model's context holds {target.context}; shorten the prompt"
        )


def warm_up(drafter: Drafter, hidden: int, dtype: torch.dtype) -> None:
    """Run every method of a drafter once, so that no timed step and no rank's deadline includes compilation.

    hidden: numbers of a hidden state (H). dtype: of hidden states and logits.
    """
    text = [1, 2, 1]
    drafter.begin(text)
    tree = drafter.draft(Context(text, torch.zeros(hidden, dtype=dtype), 8, 4))
    scored = Scored(torch.zeros(len(tree.tokens), 8, dtype=dtype), torch.zeros(len(tree.tokens), hidden, dtype=dtype))
    path, picks = GumbelSampler().walk(tree, scored, text)
    drafter.observe(Step([*text, *picks.tolist()], picks, tree, path, scored))
    drafter.begin(text)

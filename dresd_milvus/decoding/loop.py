"""Speculative decoding, on one screen: draft a tree, verify it in one forward pass, keep what the target says.

Depends on protocols only. Lossless for every drafter and every chooser: each emitted token is the target's own
pick at its position (see `sampling`), the draft only decides how many of them one forward pass yields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

import torch

from dresd_milvus.decoding.protocols import Budget, Context, Drafter, Step, Target
from dresd_milvus.decoding.sampling import Chooser, Sampler
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.errors import InputError

DEPTH = 32
"""Tokens on one path of a draft, where nothing else is asked for."""

MAX_NEW_TOKENS = 512
"""Tokens of one answer, where nothing else is asked for."""


StopsAt = Callable[[int], bool]
"""Takes every token of a text in turn, end tokens apart; whether the text ends with it."""


class FixedBudget(NamedTuple):
    """The same budget at every step."""

    nodes: int = 16
    depth: int = DEPTH


class StepRecord(NamedTuple):
    """What a step did, in numbers; times in seconds.

    nodes, depth: of the drafted tree (0 without a draft). accepted: tokens emitted less one, so that MAT is tokens /
    steps without exception; where a text ends within a draft its last token counts as the bonus.
    draft: asking the drafter. verify: the forward pass. choose: picks along the path and cache upkeep. total: all.
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
        """Of a step's tree, the draft tokens that it gave, and when it came to each point."""
        depth = int(tree.depths().max())
        return cls(len(tree), depth, accepted, drafted - begun, verified - drafted, kept - verified, done - begun)


@dataclass
class Generation:
    """One generated text. tokens: what follows the prompt, an end token included. Times in seconds."""

    tokens: list[int] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    reason: str = ""
    prefill: float = 0.0
    decoding: float = 0.0

    @property
    def answer(self) -> list[int]:
        """The tokens without an end token."""
        return self.tokens[:-1] if self.reason == "eos" else self.tokens

    @property
    def accept_lengths(self) -> list[int]:
        """Draft tokens kept per step, bonus excluded, every step counted."""
        return [step.accepted for step in self.steps]

    @property
    def mat(self) -> float:
        """Mean accepted tokens per step, bonus included: 1.00 for plain decoding."""
        return len(self.tokens) / max(len(self.steps), 1)

    @property
    def hit_rate(self) -> float:
        """Share of steps that had a draft."""
        return sum(step.nodes > 0 for step in self.steps) / max(len(self.steps), 1)

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed, prefill apart."""
        return len(self.tokens) / self.decoding if self.decoding else 0.0


class Stop:
    """Ends the text: at an end token, where `stops_at` says so, at max_new_tokens, or where the context is full."""

    def __init__(self, eos_ids: frozenset[int], max_new_tokens: int, room: int, stops_at: StopsAt | None) -> None:
        self.eos_ids, self.stops_at = eos_ids, stops_at
        self.limit = min(max_new_tokens, room)
        self.limit_reason = "length" if max_new_tokens <= room else "context"
        self.reason = self.limit_reason if self.limit <= 0 else ""

    def take(self, tokens: list[int]) -> int:
        """How many of a step's tokens belong to the text; sets reason when it ends there."""
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
    choose: Chooser,
    prompt: Sequence[int],
    max_new_tokens: int,
    budget: Budget,
    result: Generation,
    reuse: bool = False,
    stops_at: StopsAt | None = None,
) -> Iterator[Step]:
    """Continue a prompt (token ids, not empty) by at most max_new_tokens: every step, as it ends.

    result: a new Generation; it is filled in when the text has ended. A caller that sets its `reason` after a step ends
    the text there; one that closes the iterator leaves it empty. reuse: what this prompt and the text before begin with
    is not read again, as in a conversation. stops_at: ends the text at a token, also within a draft.
    Raises InputError for an empty prompt and for one that fills the model's context.
    """
    check_prompt(target, prompt)
    tokens = list(prompt)
    stop = Stop(target.eos_ids, max_new_tokens, target.room(len(prompt)), stops_at)
    steps = list[tuple[DraftTree, int, float, float, float, float, float]]()
    start = perf_counter()
    states, node = target.prefill(tokens[:-1], reuse), 0
    drafter.begin(tokens)
    begun = perf_counter()

    result.reason = stop.reason
    while not result.reason:  # invariant: the target's cache holds tokens[:-1]
        drafting = perf_counter()
        depth = min(budget.depth, stop.limit - 1)  # what the limit would cut is not worth verifying
        tree = drafter.draft(Context(tokens, states, budget.nodes if depth > 0 else 0, depth, node))
        verifying = perf_counter()
        scored = target.verify(tree)
        choosing = perf_counter()
        path, picks = choose.walk(tree, scored, tokens)
        new = picks.tolist()
        taken = stop.take(new)
        if taken < len(new):
            path, picks, new = path[:taken], picks[:taken], new[:taken]
        target.keep(path)
        tokens += new
        states, node = scored.states, int(path[-1])
        kept = perf_counter()
        drafter.observe(step := Step(tokens, picks, tree, path, scored, kept - verifying))
        steps.append((tree, taken - 1, drafting, verifying, choosing, kept, perf_counter()))
        result.reason = stop.reason
        yield step

    result.tokens = tokens[len(prompt) :]
    result.prefill, result.decoding = begun - start, perf_counter() - begun
    result.steps = [StepRecord.of(*step) for step in steps]  # while decoding there is no time for it


def generate(
    target: Target,
    drafter: Drafter,
    choose: Chooser,
    prompt: Sequence[int],
    max_new_tokens: int,
    budget: Budget,
    watch: Callable[[Step], bool | None] | None = None,
    reuse: bool = False,
    stops_at: StopsAt | None = None,
) -> Generation:
    """The whole text that `decode` gives, which has the other arguments and errors.

    watch: sees every step as it ends, and ends the text where it says True.
    """
    result = Generation()
    for step in decode(target, drafter, choose, prompt, max_new_tokens, budget, result, reuse, stops_at):
        if watch and watch(step):
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


def rehearse(drafter: Drafter, hidden: int, dtype: torch.dtype) -> None:
    """Have a drafter do all that it does once, with states [hidden] and logits of this dtype, so that what is compiled
    at first use is in no step's time, and in no rank's deadline."""
    text = [1, 2, 1]
    drafter.begin(text)
    tree = drafter.draft(Context(text, torch.zeros(hidden, dtype=dtype), 8, 4))
    scored = Scored(torch.zeros(len(tree.tokens), 8, dtype=dtype), torch.zeros(len(tree.tokens), hidden, dtype=dtype))
    path, picks = Sampler().walk(tree, scored, text)
    drafter.observe(Step([*text, *picks.tolist()], picks, tree, path, scored))
    drafter.begin(text)

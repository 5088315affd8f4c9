"""Every system through one loop and one verifier, on the same prompts, in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dresd_milvus.corpus.conversation import Conversation, Dialogue
from dresd_milvus.decoding.loop import FixedBudget, Generation, generate
from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.decoding.sampling import Sampler
from dresd_milvus.drafters.hybrid import Hybrid
from dresd_milvus.drafters.hybrid.attribution import count_by_source
from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.models.ranks import sampler_for
from dresd_milvus.options import DecodingOptions
from dresd_milvus.systems.registry import budget_of
from evaluation.prompts import Prompt
from evaluation.reporting.metrics import Record
from evaluation.running.lossless import first_difference, gap_at

WARM_UP_TOKENS = 16

LARGEST_GAP = 1e9
"""What an infinite gap is written as: a nucleus of one token has no second."""


@dataclass(frozen=True)
class Options(DecodingOptions):
    """How texts are generated. Prompt i of a suite samples with seed + i. repeats: how often everything is generated,
    for its time.
    """

    max_new_tokens: int = 128
    repeats: int = 1

    def budget(self, system: str) -> FixedBudget:
        """The budget of a system's drafts."""
        return budget_of(system, self.nodes, self.depth)


class Unit(NamedTuple):
    """The least that a run does or does not: one prompt, all its turns, by every system. prompt: its number."""

    repeat: int
    prompt: int


class Text(NamedTuple):
    """A turn: what was read, what was generated, and the accepted draft tokens by source (see attribution)."""

    ids: list[int]
    done: Generation
    accepted_from: dict[str, int]


def check_lengths(model: LoadedModel, conversation: Conversation, prompts: Sequence[Prompt]) -> None:
    """Raise InputError, naming the first, when some prompts fill the model's context."""
    context = model.target.context
    sizes = [len(conversation.begin(prompt.text)) for prompt in prompts]
    long = [index for index, size in enumerate(sizes) if size >= context]
    if long:
        raise InputError(
            f"{len(long)} of {len(prompts)} prompts do not fit the model's context of {context} tokens, the first of "
            f"them {prompts[long[0]].id} with {sizes[long[0]]}; take them out of the suite (--skip-long)"
        )


class Harness:
    """Generates the records of a run. drafters: vanilla first. It does the same on every rank of a model."""

    def __init__(
        self,
        model: LoadedModel,
        drafters: Sequence[Drafter],
        conversation: Conversation,
        prompts: Sequence[Prompt],
        options: Options,
    ) -> None:
        self.model, self.drafters, self.options = model, drafters, options
        self.conversation, self.prompts = conversation, prompts

    def units(self) -> list[Unit]:
        """All units of a run: every prompt in every repeat."""
        return [Unit(repeat, index) for repeat in range(self.options.repeats) for index in range(len(self.prompts))]

    def warm_up(self) -> None:
        """Generate a few tokens with every drafter, which no record includes."""
        ids = self.conversation.begin(self.prompts[0].text)
        for drafter in self.drafters:
            self._generate(drafter, ids, self.options.sampler(0), WARM_UP_TOKENS)

    def run(self, unit: Unit) -> list[Record]:
        """The records of a unit, system by system.

        Which system comes first changes from unit to unit, so that none always finds the processor warm; vanilla has
        its turn among the others, so that a machine that slows down slows all alike.
        """
        prompt, sampler = self.prompts[unit.prompt], self.options.sampler(unit.prompt)
        turn = (unit.prompt + unit.repeat) % len(self.drafters)
        made = {d.name: list(self._texts(d, prompt, sampler)) for d in (*self.drafters[turn:], *self.drafters[:turn])}
        records = []
        for drafter in self.drafters:
            for at, (ids, done, accepted_from) in enumerate(made[drafter.name]):
                record = make_record(self.model, drafter.name, prompt, ids, done)
                record |= {"accepted_from": accepted_from} if accepted_from else {}
                record |= {"repeat": unit.repeat, "index": unit.prompt, "turn": at}
                record |= self._difference(sampler, made["vanilla"], made[drafter.name], at)
                records.append(record)
        return [{**record, "of": len(records)} for record in records]

    def _texts(self, drafter: Drafter, prompt: Prompt, sampler: Sampler) -> Iterator[Text]:
        """Every turn that there is room for."""
        dialogue = Dialogue(self.conversation)
        for at, question in enumerate(prompt.turns):
            ids = dialogue.ask(question)
            if at and len(ids) >= self.model.target.context:
                return
            done = self._generate(drafter, ids, sampler, self.options.max_new_tokens)
            yield Text(ids, done, count_by_source(drafter.taken) if isinstance(drafter, Hybrid) else {})
            dialogue.answered(question, ids, done.answer)

    def _generate(self, drafter: Drafter, ids: list[int], sampler: Sampler, tokens: int) -> Generation:
        return generate(
            self.model.target, drafter, sampler_for(drafter, sampler), ids, tokens, self.options.budget(drafter.name)
        )

    def _difference(
        self,
        sampler: Sampler,
        plain: Sequence[Text],
        ours: Sequence[Text],
        at: int,
    ) -> dict[str, Any]:
        """Where this turn's text departs from vanilla's, and how close the call was there; nothing where it does not.

        Turns after one that departed have other prompts and are not compared.
        """
        if any(a.done.tokens != b.done.tokens for a, b in zip(plain[:at], ours[:at], strict=True)) or at >= len(plain):
            return {"first_difference": None, "compared": False}
        ids, theirs = plain[at].ids, plain[at].done.tokens
        position = first_difference(ours[at].done.tokens, theirs)
        if position is None:
            return {"first_difference": None, "compared": True}
        gap = min(gap_at(self.model.target, sampler, ids + theirs[:position]), LARGEST_GAP)
        return {"first_difference": position, "gap": gap, "compared": True}


def make_record(model: LoadedModel, system: str, prompt: Prompt, ids: list[int], done: Generation) -> Record:
    """What is kept of one text: lists hold one entry a step, times are milliseconds."""
    return {
        "system": system,
        "prompt_id": prompt.id,
        "category": prompt.category,
        "text": model.tokenizer.decode(done.tokens, skip_special_tokens=True),
        "tokens": done.tokens,
        "prompt_tokens": len(ids),
        "new_tokens": len(done.tokens),
        "reason": done.reason,
        "prefill_ms": _ms(done.prefill),
        "decoding_ms": _ms(done.decoding),
        "accept_lengths": done.accept_lengths,
        "nodes": [step.nodes for step in done.steps],
        "depth": [step.depth for step in done.steps],
        **{
            f"{name}_ms": [_ms(getattr(step, name)) for step in done.steps]
            for name in ("draft", "verify", "choose", "total")
        },
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 4)

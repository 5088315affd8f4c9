"""Every system through one loop and one verifier, on the same prompts, in turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dresd_milvus.choose import Chooser, make_chooser
from dresd_milvus.corpus import Template, encode_prompt
from dresd_milvus.decode import FixedBudget, Generation, generate
from dresd_milvus.drafters.base import Drafter
from dresd_milvus.errors import InputError
from dresd_milvus.loading import LoadedModel
from evaluation.lossless import Divergence, first_difference, gap_at
from evaluation.metrics import Record, summarise
from evaluation.suites import Prompt

WARM_UP_TOKENS = 16


@dataclass(frozen=True)
class Options:
    """How texts are generated. temperature 0 is greedy; prompt i of a suite samples with seed + i."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    nodes: int = 16
    depth: int = 10

    @property
    def budget(self) -> FixedBudget:
        return FixedBudget(self.nodes, self.depth)

    def chooser(self, index: int) -> Chooser:
        return make_chooser(self.temperature, self.top_p, self.seed + index)


class Progress(Protocol):
    """How an evaluation tells what it does."""

    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> None: ...
    def advance(self, amount: int) -> None: ...


@dataclass
class Results:
    """Records and divergences by system."""

    suite: str
    records: dict[str, list[Record]] = field(default_factory=dict)
    divergences: dict[str, list[Divergence]] = field(default_factory=dict)

    def runs(self) -> list[dict[str, Any]]:
        """One summary per system, vanilla first."""
        return [
            {
                "system": system,
                "suite": self.suite,
                **summarise(records, self.records["vanilla"]),
                "identical": len(records) - len(self.divergences[system]),
                "first_divergences": [divergence._asdict() for divergence in self.divergences[system]],
            }
            for system, records in self.records.items()
        ]


def encode_suite(model: LoadedModel, template: Template | None, prompts: Sequence[Prompt]) -> list[list[int]]:
    """The tokens of every prompt; raises InputError, naming the first, when some fill the model's context."""
    encoded = [encode_prompt(model.tokenizer, template, prompt.text) for prompt in prompts]
    context = model.target.context
    long = [index for index, ids in enumerate(encoded) if len(ids) >= context]
    if long:
        raise InputError(
            f"{len(long)} of {len(prompts)} prompts do not fit the model's context of {context} tokens, the first of "
            f"them {prompts[long[0]].id} with {len(encoded[long[0]])}; take them out of the suite"
        )
    return encoded


def evaluate(
    model: LoadedModel,
    drafters: Sequence[Drafter],
    suite: str,
    prompts: Sequence[Prompt],
    encoded: Sequence[list[int]],
    options: Options,
    out: Path,
    progress: Progress,
) -> Results:
    """Generate from every prompt with every system; records go to out/records.jsonl as they are made.

    drafters: vanilla among them. Which system comes first changes from prompt to prompt, so that none always finds
    the processor warm.
    """
    results = Results(suite, {d.name: [] for d in drafters}, {d.name: [] for d in drafters})
    progress.phase("warming up", None, "")
    for drafter in drafters:
        _generate(model, drafter, encoded[0], options.chooser(0), options, WARM_UP_TOKENS)
    progress.phase("generating", len(prompts) * len(drafters), "texts")
    with (out / "records.jsonl").open("w") as file:
        for index, (prompt, ids) in enumerate(zip(prompts, encoded, strict=True)):
            choose = options.chooser(index)
            turn = index % len(drafters)
            for drafter in (*drafters[turn:], *drafters[:turn]):
                done = _generate(model, drafter, ids, choose, options, options.max_new_tokens)
                record = make_record(model, drafter.name, prompt.id, ids, done)
                results.records[drafter.name].append(record)
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                file.flush()
                progress.advance(1)
            _compare(model, choose, ids, prompt.id, results)
    return results


def _generate(
    model: LoadedModel, drafter: Drafter, ids: list[int], choose: Chooser, options: Options, tokens: int
) -> Generation:
    return generate(model.target, drafter, choose, ids, tokens, options.budget)


def _compare(model: LoadedModel, choose: Chooser, ids: list[int], prompt_id: str, results: Results) -> None:
    """Note where each system's latest text departs from vanilla's."""
    plain = results.records["vanilla"][-1]["tokens"]
    for system, records in results.records.items():
        position = first_difference(records[-1]["tokens"], plain)
        if position is not None:
            gap = gap_at(model.target, choose, ids + plain[:position])
            results.divergences[system].append(Divergence(prompt_id, position, gap))


def make_record(model: LoadedModel, system: str, prompt_id: str, ids: list[int], done: Generation) -> Record:
    """What is kept of one text: lists hold one entry a step, times are milliseconds."""
    return {
        "system": system,
        "prompt_id": prompt_id,
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

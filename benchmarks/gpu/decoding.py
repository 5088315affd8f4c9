"""The decoding loop: what it adds to the bare forward pass, and where the time of a step goes when drafts are accepted.

Acceptance is simulated: a stub drafts text that the model has written before, with as many right tokens as are to be
accepted, and wrong tokens beside and after them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from model import random_text
from shared import alternate, ratio, summary, synchronize

from dresd_milvus.decoding.loop import FixedBudget, StepRecord, generate
from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.decoding.scores import Floats, Scored
from dresd_milvus.decoding.tree import DraftTree, Walk
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.target.cache import TreeCache

PLAIN = FixedBudget(nodes=0, depth=0)
DRAFTS = ((16, 0), (16, 2), (16, 4), (64, 0), (64, 2), (64, 4))
"""(draft nodes, accepted nodes) of the simulated steps."""


class KnownTextDrafter:
    """Drafts a known text: its next `accepted` tokens, each with a wrong sibling before it, then wrong tokens.

    The nodes 0, 2, 4, ... are accepted, so that the cache has gaps, as after a retrieved tree.
    """

    name = "simulated"

    def __init__(self, text: list[int], accepted: int, vocabulary: int) -> None:
        self.text, self.accepted, self.vocabulary = np.array(text, np.int32), accepted, vocabulary

    def begin(self, prompt: Sequence[int]) -> None:
        pass

    def observe(self, step: Step) -> None:
        pass

    def draft(self, context: Context) -> DraftTree:
        count, root = min(context.max_nodes, 2 * context.max_depth), context.tokens[-1]
        if count <= 0:
            return DraftTree.root_only(root, self.name)
        node = np.arange(count)
        right = self.text[np.minimum(len(context.tokens) + node // 2, len(self.text) - 1)]
        wrong = np.where(node // 2 < self.accepted, 1 - node % 2, 1 + node % 2)
        tokens, parents = (right + wrong) % self.vocabulary, node // 2 * 2
        return DraftTree(
            np.concatenate([[root], tokens]).astype(np.int32),
            np.concatenate([[-1], parents]).astype(np.int32),
            self.name,
        )


class RecordedSampler:
    """Picks as Greedy does, for the time that it takes, but returns the tokens of the known text.

    With random weights the best scores are so close that a batch of another shape may pick otherwise. picked, differed:
    number of picks, and of those that were not the known text's.
    """

    def __init__(self, text: list[int]) -> None:
        self.text, self.greedy, self.picked, self.differed = text, Greedy(), 0, 0

    def scores(self, row: Floats, text: Sequence[int]) -> Floats:
        return self.greedy.scores(row, text)

    def walk(self, tree: DraftTree, scored: Scored, text: Sequence[int]) -> Walk:
        picked = self.greedy.walk(tree, scored, text).picks.tolist()
        known = tree.walk(lambda node, depth: self.text[len(text) + depth])
        both = list(zip(picked, known.picks.tolist(), strict=False))
        self.picked, self.differed = self.picked + len(both), self.differed + sum(a != b for a, b in both)
        return known


@torch.inference_mode()
def bare(model: LoadedModel, prompt: list[int], tokens: int, launch: bool = False) -> float:
    """Median milliseconds of a forward pass over one token, while the text grows by `tokens`.

    launch: measure only until the call returns, which is the time that the host needs to launch the kernels.
    """
    target, hf = model.target, model.target.model
    cache = TreeCache(hf.config.num_hidden_layers)
    ids = torch.tensor([[*prompt, *random_text(model, tokens)]], device=target.device)
    places, times = torch.arange(ids.shape[1], device=target.device)[None], []
    for begin in (0, *range(len(prompt), ids.shape[1])):
        here = slice(begin, len(prompt) if begin == 0 else begin + 1)
        inputs = {"input_ids": ids[:, here], "position_ids": places[:, here], "logits_to_keep": 1}
        synchronize(target.device)
        begun = perf_counter()
        hf(**inputs, past_key_values=cache, use_cache=True)
        returned = perf_counter()
        synchronize(target.device)
        times.append(1e3 * ((returned if launch else perf_counter()) - begun))
        cache.length = here.stop
    return float(np.median(times[1:]))


def overhead(model: LoadedModel, length: int, tokens: int, texts: int) -> dict[str, Any]:
    """A step of plain decoding with generate() against the bare forward pass at the same lengths."""
    prompt = random_text(model, length)

    def vanilla() -> float:
        steps = generate(model.target, Vanilla(), Greedy(), prompt, tokens, PLAIN).steps
        return float(np.median([1e3 * step.total for step in steps]))

    measured = alternate(
        {
            "vanilla": vanilla,
            "bare": lambda: bare(model, prompt, tokens),
            "launch": lambda: bare(model, prompt, tokens, launch=True),
        },
        texts,
    )
    return {
        **{f"{name}_ms": summary(times) for name, times in measured.items()},
        "vanilla_over_bare": ratio(measured["vanilla"], measured["bare"]),
        "implicit_waits_a_step": implicit_waits(model, prompt),
    }


def implicit_waits(model: LoadedModel, prompt: list[int], steps: int = 16) -> float | None:
    """Implicit synchronisations with the device in a step of plain decoding (copies, picks); None on a CPU."""
    if model.target.device.type != "cuda":
        return None
    generate(model.target, Vanilla(), Greedy(), prompt, 1, PLAIN)

    def count(tokens: int) -> int:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                generate(model.target, Vanilla(), Greedy(), prompt, tokens, PLAIN)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("called a synchronizing" in str(warning.message) for warning in caught)

    return (count(steps + 1) - count(1)) / steps  # without those of prefill


def simulated(model: LoadedModel, length: int, tokens: int, texts: int) -> dict[str, Any]:
    """Milliseconds of the parts of a step by (nodes, accepted), and the speed-up that would follow."""
    prompt, vocabulary = random_text(model, length), model.target.vocab_size
    text = prompt + generate(model.target, Vanilla(), Greedy(), prompt, tokens + 1, PLAIN).tokens
    steps: dict[tuple[int, int], list[StepRecord]] = {case: [] for case in ((0, 0), *DRAFTS)}
    sampler, speeds = RecordedSampler(text), {case: [0.0] for case in steps}
    for turn in range(texts + 1):
        for nodes, accepted in steps:
            budget = FixedBudget(nodes, depth=32)
            generation = generate(
                model.target, KnownTextDrafter(text, accepted, vocabulary), sampler, prompt, tokens, budget
            )
            if turn:  # the first one warms up
                steps[nodes, accepted] += generation.steps
                speeds[nodes, accepted].append(generation.tokens_per_second)
    plain = speeds[0, 0][1:]
    cases = [
        _case(nodes, accepted, records, speeds[nodes, accepted][1:], plain)
        for (nodes, accepted), records in steps.items()
    ]
    return {"cases": cases, "picks": sampler.picked, "picks_that_differed": sampler.differed}


def _case(
    nodes: int, accepted: int, records: list[StepRecord], speed: list[float], plain: list[float]
) -> dict[str, Any]:
    columns = {name: [1e3 * getattr(record, name) for record in records] for name in ("draft", "verify", "choose")}
    columns["rest"] = [1e3 * (r.total - r.draft - r.verify - r.choose) for r in records]
    columns["total"] = [1e3 * record.total for record in records]
    return {
        "nodes": nodes,
        "accepted": accepted,
        "mat": float(np.mean([record.accepted + 1 for record in records])),
        "speed_up_simulated": ratio(speed, plain),
        **{f"{name}_ms": summary(times) for name, times in columns.items()},
    }

"""Draft quality without generating: what of a known text each drafter would have drafted (teacher forcing).

A text is held out of the store. The target reads it once, which gives its state at every token; at chosen positions
every drafter is asked with exactly what it would have seen there, and its tree is walked along the text. The mean of
what was right is the quality of drafts at an average position, good for comparing drafters; decoding jumps over what is
easy, and so has a shorter accepted length. Nothing is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dresd_milvus.drafters.base import Context, Drafter, Step
from dresd_milvus.errors import InputError
from dresd_milvus.host import Scored
from dresd_milvus.loading import LoadedModel
from dresd_milvus.tree import DraftTree

RESAMPLES = 2_000


class Text(NamedTuple):
    """A text to force: ids, of which the answer begins at `start` (at least 1)."""

    ids: list[int]
    start: int


@dataclass(frozen=True)
class Shape:
    """A budget: nodes (the root not counted) and depth."""

    nodes: int
    depth: int


class Tally:
    """What one drafter did with one shape: accepted tokens and drafted nodes at every position, text by text."""

    def __init__(self) -> None:
        self.accepted: list[list[int]] = []
        self.nodes: list[list[int]] = []

    def summary(self) -> dict[str, Any]:
        """Means over positions, with a 95 % bootstrap interval over texts."""
        accepted = np.concatenate([np.asarray(part, float) for part in self.accepted])
        nodes = np.concatenate([np.asarray(part, float) for part in self.nodes])
        drafted = nodes > 0
        sums = np.array([(sum(part), len(part)) for part in self.accepted], float)
        pick = np.random.default_rng(0).integers(0, len(sums), (RESAMPLES, len(sums)))
        resampled = sums[pick].sum(1)
        low, high = np.percentile(resampled[:, 0] / resampled[:, 1], [2.5, 97.5])
        return {
            "accepted_length": float(accepted.mean()),
            "interval": [float(low), float(high)],
            "hit_rate": float(drafted.mean()),
            "accepted_when_drafted": float(accepted[drafted].mean()) if drafted.any() else 0.0,
            "nodes_mean": float(nodes.mean()),
            "positions": len(accepted),
        }


def force(
    texts: Sequence[Text],
    states: Callable[[Text], Tensor],
    drafters: Sequence[Drafter],
    shapes: Sequence[Shape],
    positions: int,
    advance: Callable[[int], None] = lambda texts: None,
    head: Callable[[Tensor], Tensor] = lambda hidden: hidden[:, :0],
) -> dict[str, dict[Shape, Tally]]:
    """Ask every drafter with every shape at about `positions` positions of all texts together, evenly spread.

    Positions lie further apart than a draft is deep, so that all of a draft is proved right or wrong before the next,
    for the drafters that learn. states: the target's hidden states [T, H] at every token of a text; head: what makes
    logits [N, V] of some of them. Raises InputError when there is nothing to ask.
    """
    room = sum(len(text.ids) - text.start for text in texts)
    if room <= 0:
        raise InputError("the texts have no answers to draft; give rows with a prompt and an answer")
    stride = max(room // positions, 1 + max(shape.depth for shape in shapes))
    found = {drafter.name: {shape: Tally() for shape in shapes} for drafter in drafters}
    for index, text in enumerate(texts):
        hidden = states(text)
        # Texts shorter than a stride are asked at other places each, or all would be asked at their first token.
        first = text.start + index % min(stride, len(text.ids) - text.start)
        asked = range(first, len(text.ids), stride)
        for drafter in drafters:
            tallies = found[drafter.name]
            for tally in tallies.values():
                tally.accepted.append([])
                tally.nodes.append([])
            drafter.begin(text.ids[: text.start])
            told = text.start
            for at in asked:
                if at > told:
                    seen = hidden[told - 1 : at - 1]
                    drafter.observe(_step(text.ids, told, at, Scored(head(seen), seen)))
                told = at
                for shape, tally in tallies.items():
                    # The state that produced the root, text.ids[at - 1], is that of the token before it.
                    state = hidden[at - 2] if at >= 2 else None
                    tree = drafter.draft(Context(text.ids[:at], state, shape.nodes, shape.depth))
                    tally.accepted[-1].append(agreement(tree, text.ids[at:]))
                    tally.nodes[-1].append(len(tree))
        advance(1)
    return found


def agreement(tree: DraftTree, following: Sequence[int]) -> int:
    """How many tokens of what follows the tree holds, from the root on."""
    return len(tree.along(following).path) - 1


def _step(ids: Sequence[int], begin: int, end: int, scored: Scored) -> Step:
    """ids[begin:end] came, as if all but the last of them had been drafted; scored: what the target said at the tokens
    before them."""
    count = end - begin
    tokens = np.array(ids[begin - 1 : end - 1], np.int32)
    chain = DraftTree(tokens, np.arange(-1, count - 1, dtype=np.int32))
    return Step(ids[:end], np.array(ids[begin:end]), chain, np.arange(count), scored)


def target_states(model: LoadedModel) -> Callable[[Text], Tensor]:
    """What `force` asks for, of a model: its last hidden states [T, H], the keys' kind."""

    def states(text: Text) -> Tensor:
        ids = torch.tensor([text.ids])
        return model.target.embed(ids, torch.ones_like(ids))[0]

    return states


def encode_texts(model: LoadedModel, pairs: Iterable[tuple[list[int], str]], limit: int) -> list[Text]:
    """(prompt's ids, answer) -> texts that fit the model's context, at most `limit`; an end token closes each."""
    texts: list[Text] = []
    end = [model.tokenizer.eos_token_id] if model.tokenizer.eos_token_id is not None else []
    for prompt, answer in pairs:
        ids = prompt + model.tokenizer(answer, add_special_tokens=False)["input_ids"] + end
        if len(ids) <= model.target.context and len(prompt) >= 1 and len(ids) > len(prompt):
            texts.append(Text(ids, len(prompt)))
        if len(texts) == limit:
            break
    return texts

"""Draft quality without generating: what of a known text each drafter would have drafted (teacher forcing).

A text is held out of the store. The target reads it once, or did so when it was recorded, which gives its state at
every token; at chosen positions every drafter is asked with exactly what it would have seen there, and its tree is
walked along the text. The mean of what was right is the quality of drafts at an average position, good for comparing
drafters; decoding jumps over what is easy, and so has a shorter accepted length. Nothing is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from dresd_milvus.decoding.protocols import Context, Drafter, Step
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import LoadedModel
from evaluation.reporting.bootstrap import interval


class Forced(Protocol):
    """A text to force: ids, of which the answer begins at `start` (at least 1)."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def start(self) -> int: ...


class Text(NamedTuple):
    """A text and no more, see `Forced`."""

    ids: list[int]
    start: int


AnyText = TypeVar("AnyText", bound=Forced)

Says = Callable[[int, int], Scored]
"""(first, last) -> what the target says at the tokens of a text from `first` on and before `last`."""


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
        return {
            "accepted_length": float(accepted.mean()),
            "interval": interval(lambda drawn: np.divide(*drawn.sum(1).T), sums),
            "hit_rate": float(drafted.mean()),
            "accepted_when_drafted": float(accepted[drafted].mean()) if drafted.any() else 0.0,
            "nodes_mean": float(nodes.mean()),
            "positions": len(accepted),
        }


def force(
    texts: Sequence[AnyText],
    listen: Callable[[AnyText], Says],
    drafters: Sequence[Drafter],
    shapes: Sequence[Shape],
    positions: int,
    advance: Callable[[int], None] = lambda texts: None,
) -> dict[str, dict[Shape, Tally]]:
    """Ask every drafter with every shape at about `positions` positions of all texts together, evenly spread.

    Positions lie further apart than a draft is deep, so that all of a draft is proved right or wrong before the next,
    for the drafters that learn. listen: what the target says along a text. Raises InputError when there is nothing to
    ask.
    """
    room = sum(len(text.ids) - text.start for text in texts)
    if room <= 0:
        raise InputError("the texts have no answers to draft; give rows with a prompt and an answer")
    stride = max(room // positions, 1 + max(shape.depth for shape in shapes))
    found = {drafter.name: {shape: Tally() for shape in shapes} for drafter in drafters}
    for index, text in enumerate(texts):
        says = listen(text)
        for drafter in drafters:
            for tally in found[drafter.name].values():
                tally.accepted.append([])
                tally.nodes.append([])
            drafter.begin(text.ids[: text.start])
        # Texts shorter than a stride are asked at other places each, or all would be asked at their first token.
        told, first = text.start, text.start + index % min(stride, len(text.ids) - text.start)
        for at in range(first, len(text.ids), stride):
            step = _step(text.ids, told, at, says(told - 1, at - 1)) if at > told else None
            # The state that produced the root, text.ids[at - 1], is that of the token before it.
            state = says(at - 2, at - 1).states if at >= 2 else None
            told = at
            for drafter in drafters:
                if step:
                    drafter.observe(step)
                for shape, tally in found[drafter.name].items():
                    tree = drafter.draft(Context(text.ids[:at], state, shape.nodes, shape.depth))
                    # What lies deeper than was asked for is proved at the next position.
                    tally.accepted[-1].append(agreement(tree, text.ids[at : at + shape.depth]))
                    tally.nodes[-1].append(len(tree))
        advance(1)
    return found


def agreement(tree: DraftTree, following: Sequence[int]) -> int:
    """How many tokens of what follows the tree holds, from the root on."""
    return len(tree.follow(following).path) - 1


def _step(ids: Sequence[int], begin: int, end: int, scored: Scored) -> Step:
    """ids[begin:end] came, as if all but the last of them had been drafted; scored: what the target said at the tokens
    before them."""
    count = end - begin
    tokens = np.array(ids[begin - 1 : end - 1], np.int32)
    chain = DraftTree(tokens, np.arange(-1, count - 1, dtype=np.int32))
    return Step(ids[:end], np.array(ids[begin:end]), chain, np.arange(count), scored)


def listener(model: LoadedModel, head: bool = True) -> Callable[[Forced], Says]:
    """What a model says along a text: the keys' kind of states, and with its head the logits (else [N, 0])."""

    def listen(text: Forced) -> Says:
        ids = torch.tensor([text.ids])
        hidden = model.target.embed(ids, torch.ones_like(ids))[0]
        return lambda first, last: said(hidden[first:last], model.target.score if head else None)

    return listen


def said(states: Tensor, head: Callable[[Tensor], Tensor] | None = None) -> Scored:
    """States [N, H] with the logits that a head makes of them, [N, 0] without one."""
    return Scored(head(states) if head else states[:, :0], states)


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

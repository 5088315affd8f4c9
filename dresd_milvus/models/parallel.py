"""A model that is split over ranks, used by rank 0 alone: the others take part in its batched passes when told to.

For ingestion, where all but the passes through the model is rank 0's: it announces each, the others carry it out too.
(Decoding goes another way, see `ranks`: there a step's messages are counted.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from dresd_milvus.models.devices import pick_device
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.models.ranks import FOLLOW_SECONDS, Ranks
from dresd_milvus.target.hf_target import HFTarget


class _Pass(NamedTuple):
    """A method of the target and what it is called with; 'end' for no more."""

    name: str
    inputs: tuple[Any, ...] = ()
    how: dict[str, Any] | None = None
    random: Tensor | None = None


class LedTarget:
    """Rank 0's target: announces every batch to the ranks that `follow`."""

    def __init__(self, target: HFTarget, ranks: Ranks) -> None:
        self.target, self.ranks = target, ranks

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def embed(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """See HFTarget.embed: tokens, attention_mask [B, T] -> [B, T, H]."""
        self.ranks.share(lambda: _Pass("embed", (tokens, attention_mask)))
        return self.target.embed(tokens, attention_mask)

    def write(self, tokens: Tensor, attention_mask: Tensor, max_new_tokens: int, pad: int, **how: Any) -> Tensor:
        """See HFTarget.write; all ranks draw what this one would."""
        random = generator_of(self.target).get_state()
        self.ranks.share(lambda: _Pass("write", (tokens, attention_mask, max_new_tokens, pad), how, random))
        return self.target.write(tokens, attention_mask, max_new_tokens, pad, **how)


def generator_of(target: HFTarget) -> torch.Generator:
    """The generator that torch draws from where the target is."""
    if target.device.type == "cuda":
        return torch.cuda.default_generators[target.device.index or 0]
    return torch.default_generator


def on_all_ranks(tp: int, device: str, load: Callable[[], LoadedModel], work: Callable[[LoadedModel], None]) -> None:
    """Load a model on all ranks and have rank 0 work with it, the others following.

    load: load_model with this tp. Raises InputError when there are not tp ranks, and on all ranks what rank 0 raises.
    """
    ranks = Ranks.join(tp, pick_device(device).type)
    with ranks.together():
        model = load()
        if not ranks.first:
            _follow(model.target, ranks)
            return
        work(replace(model, target=cast(HFTarget, LedTarget(model.target, ranks))) if tp > 1 else model)
        ranks.share(lambda: _Pass("end"))


def _follow(target: HFTarget, ranks: Ranks) -> None:
    """Take part in rank 0's passes until it is done."""
    while True:
        told = ranks.share(lambda: _Pass("end"), FOLLOW_SECONDS)
        if told.name == "end":
            return
        if told.random is not None:
            generator_of(target).set_state(told.random)
        getattr(target, told.name)(*told.inputs, **(told.how or {}))

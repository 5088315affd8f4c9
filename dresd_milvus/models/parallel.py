"""Ingestion with a model that is split over ranks: rank 0 does the work, all ranks join its forward passes.

Rank 0 broadcasts every batched pass before it runs it; the other ranks wait for these messages and run the same pass.
(Decoding is different, see `ranks`: there every rank runs the loop, with two small messages a step.)
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
    """The message before a pass: a method of the target with its arguments, or the name 'end' after the last.

    random_state: of the generator that the method draws from, None if it does not.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] | None = None
    random_state: Tensor | None = None


class BroadcastTarget:
    """The target of rank 0: it broadcasts every batched pass to the other ranks, then runs it with them."""

    def __init__(self, target: HFTarget, ranks: Ranks) -> None:
        self.target, self.ranks = target, ranks

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def embed(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """See HFTarget.embed: tokens, attention_mask [B, T] -> [B, T, H]."""
        self.ranks.broadcast(lambda: _Pass("embed", (tokens, attention_mask)))
        return self.target.embed(tokens, attention_mask)

    def generate_batch(
        self, tokens: Tensor, attention_mask: Tensor, max_new_tokens: int, pad: int, **options: Any
    ) -> Tensor:
        """See HFTarget.generate_batch; all ranks sample the same tokens, for they share the generator's state."""
        state, arguments = generator_of(self.target).get_state(), (tokens, attention_mask, max_new_tokens, pad)
        self.ranks.broadcast(lambda: _Pass("generate_batch", arguments, options, state))
        return self.target.generate_batch(*arguments, **options)


def generator_of(target: HFTarget) -> torch.Generator:
    """Torch's default random generator of the target's device."""
    if target.device.type == "cuda":
        return torch.cuda.default_generators[target.device.index or 0]
    return torch.default_generator


def run_on_all_ranks(
    tp: int, device: str, load: Callable[[], LoadedModel], work: Callable[[LoadedModel], None]
) -> None:
    """Load a model on all tp ranks, run `work` on rank 0, and have the other ranks join its passes until it returns.

    load: calls load_model with this tp. Raises InputError if there are not tp ranks. If rank 0 fails, all ranks end.
    """
    ranks = Ranks.join(tp, pick_device(device).type)
    with ranks.fail_together():
        model = load()
        if not ranks.first:
            _follow(model.target, ranks)
            return
        work(replace(model, target=cast(HFTarget, BroadcastTarget(model.target, ranks))) if tp > 1 else model)
        ranks.broadcast(lambda: _Pass("end"))


def _follow(target: HFTarget, ranks: Ranks) -> None:
    """Run the passes that rank 0 broadcasts, until it sends the last."""
    while True:
        message = ranks.broadcast(lambda: _Pass("end"), FOLLOW_SECONDS)
        if message.name == "end":
            return
        if message.random_state is not None:
            generator_of(target).set_state(message.random_state)
        getattr(target, message.name)(*message.arguments, **(message.options or {}))

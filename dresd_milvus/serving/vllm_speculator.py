"""The drafter inside vLLM's worker. The only module that knows vLLM's internals; checked with 0.32.0 (docs/serving.md).

vLLM calls `propose` of a class named by method 'custom_class' of --speculative-config, with token ids only. Request
ids, draft counts and hidden states come from the method of the model runner that makes this call; it is wrapped here.
Nothing of ours may end the engine: whatever fails costs drafts, is counted, and is logged once a minute at most.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import accumulate
from time import perf_counter
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size
from vllm.logger import init_logger
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from dresd_milvus.errors import InputError
from dresd_milvus.serving.drafting import ChainDrafter
from dresd_milvus.serving.metrics import ServingMetrics
from dresd_milvus.serving.sessions import Request
from dresd_milvus.serving.settings import ServeSettings

HOOK = "propose_draft_token_ids"
"""The method of the model runner that calls `propose`."""

PARAMETERS = (
    "self", "scheduler_output", "sampled_token_ids", "sampling_metadata", "hidden_states", "sample_hidden_states",
    "aux_hidden_states", "spec_decode_metadata", "common_attn_metadata", "slot_mappings",
)  # fmt: skip
"""Its parameters in the versions that were checked."""

LIMIT = "dresd_draft_tokens"
"""What a request may say in its vllm_xargs: the longest draft; 0 turns drafts off. Another is settings.CORPUS."""

SAVE_SECONDS = 60.0
"""Time between two writings of the learned costs of steps, for the next server."""

QUIET_SECONDS = 60.0
"""A failure within this time after a logged one is not logged."""

logger = init_logger(__name__)


def check_engine() -> None:
    """Raise InputError when this version of vLLM has another hook than the one that was checked."""
    found = tuple(inspect.signature(getattr(GPUModelRunner, HOOK, lambda: None)).parameters)
    if found != PARAMETERS:
        raise InputError(f"this version of vLLM calls drafters in another way ({HOOK} has changed); install vllm 0.32")


class Step(NamedTuple):
    """A step of the engine. ids: of the requests [B], in the order of the batch. drafts: draft tokens that were
    verified of each. rooms: draft tokens that each allows at most. corpora: what each may be drafted from. scheduled:
    tokens in the forward pass. states: hidden states of the sampled positions [R, H]."""

    ids: list[str]
    drafts: list[int]
    rooms: list[int]
    corpora: list[str | None]
    scheduled: int
    states: Tensor


class Speculator:
    """What vLLM's worker calls.

    config: vLLM's configuration. metrics: see ServingMetrics; vLLM's server shows them under /metrics.
    """

    def __init__(self, config: Any) -> None:
        check_engine()
        self.drafter: ChainDrafter | None = None
        self._settings = ServeSettings.from_environment()
        self.metrics = ServingMetrics(self._settings.corpora)
        self._quiet_until, self._save_at = 0.0, perf_counter() + SAVE_SECONDS
        self._most = config.speculative_config.num_speculative_tokens
        self._context = config.model_config.max_model_len
        self._vocabulary = config.model_config.get_vocab_size()
        self._hidden_size, self._dtype = config.model_config.get_hidden_size(), config.model_config.dtype
        self._device = config.device_config.device
        self._step: Step | None = None
        self._done, self._before = 0.0, set[str]()  # the end of the last call, and its requests
        self._catch_steps()

    def load_model(self, model: Any) -> None:
        """Open the store, once the engine has loaded its model; only on the rank whose drafts count."""
        if get_tensor_model_parallel_rank() == 0:
            ranks = get_tensor_model_parallel_world_size()
            self.drafter = self._settings.make_drafter(self._device, self._dtype, ranks)
            states = torch.zeros(1, self._hidden_size, dtype=self._dtype, device=self._device)
            self.drafter.warm_up(states, self._settings.named())

    def propose(
        self, sampled: Sequence[Sequence[int]], lengths: NDArray[np.int32], texts: NDArray[np.int32], **_: Any
    ) -> list[list[int]]:
        """The draft of every request of the batch [B].

        sampled: the tokens that the step gave to each request, [] while its prompt is being read. lengths: int32 [B],
        tokens of each text. texts: int32 [B, T]; behind a text's end lie old drafts.
        """
        step, self._step = self._step, None
        nothing: list[list[int]] = [[] for _ in sampled]
        if self.drafter is None or step is None:
            return nothing
        try:
            self._learn_cost(step)
            drafts = self._propose(self.drafter, step, sampled, lengths, texts)
        except Exception:  # whatever it is, the engine must go on
            if perf_counter() > self._quiet_until:
                logger.exception("drafting failed; texts go on without drafts (failures are logged once a minute)")
                self._quiet_until = perf_counter() + QUIET_SECONDS
            self.metrics.lost()
            drafts = nothing
        self._done, self._before = perf_counter(), set(step.ids)
        return drafts

    def _propose(
        self,
        drafter: ChainDrafter,
        step: Step,
        sampled: Sequence[Sequence[int]],
        lengths: NDArray[np.int32],
        texts: NDArray[np.int32],
    ) -> list[list[int]]:
        firsts = accumulate((count + 1 for count in step.drafts), initial=0)
        requests = dict[int, Request]()
        for at, (first, new) in enumerate(zip(firsts, sampled, strict=False)):
            room = min(step.rooms[at], self._context - int(lengths[at]) - 1)
            if new and room > 0:
                text = cast(Sequence[int], texts[at, : lengths[at]])
                requests[at] = Request(step.ids[at], text, step.states, first + len(new) - 1, room, step.corpora[at])
        drafter.sessions.keep_only(step.ids)
        begun = perf_counter()
        made = dict(zip(requests, drafter.propose(list(requests.values())), strict=True))
        self.metrics.drafted(drafter, perf_counter() - begun)
        return [[token for token in made.get(at, []) if 0 <= token < self._vocabulary] for at in range(len(sampled))]

    def _learn_cost(self, step: Step) -> None:
        """Learn from the time since the last call, if the engine went straight on and read no prompt."""
        verified = sum(count + 1 for count in step.drafts)
        if self.drafter and step.scheduled == verified and self._before.issuperset(step.ids):
            self.drafter.budget.costs.observe(verified, 1e3 * (perf_counter() - self._done))
            if perf_counter() > self._save_at:  # an engine's process has no end at which it could be done
                self.drafter.budget.costs.save()
                self._save_at = perf_counter() + SAVE_SECONDS

    def _asked(self, parameters: Any) -> tuple[int, str | None]:
        """(draft tokens that a request allows at most, its corpus), by its vllm_xargs."""
        asked = (parameters and parameters.extra_args) or {}
        most = asked.get(LIMIT, self._most)
        return min(most, self._most) if isinstance(most, int) else self._most, self._settings.corpus_of(asked)

    def _catch_steps(self) -> None:
        """Have the model runner that calls this drafter hand over its step before each call."""
        called, speculator = getattr(GPUModelRunner, HOOK), self

        def catching(runner: Any, scheduler_output: Any, sampled: Any, sampling: Any, hidden: Any, states: Any,
                     auxiliary: Any, verified: Any, *others: Any) -> Any:  # fmt: skip
            ids = list(runner.input_batch.req_ids)
            drafts = verified.num_draft_tokens if verified else [0] * len(ids)
            asked = [speculator._asked(runner.requests[name].sampling_params) for name in ids]
            rooms, corpora = [most for most, _ in asked], [corpus for _, corpus in asked]
            speculator._step = Step(ids, drafts, rooms, corpora, scheduler_output.total_num_scheduled_tokens, states)
            return called(runner, scheduler_output, sampled, sampling, hidden, states, auxiliary, verified, *others)

        setattr(GPUModelRunner, HOOK, catching)

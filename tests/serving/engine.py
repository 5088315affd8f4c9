"""Answers prompts by vLLM in this process, with this project's drafter or without; run in vLLM's own environment.

    python tests/serving/engine.py JOB.json OUT.json

JOB: {"model": folder, "options": of the engine, "draft_tokens": 0 for no drafter, "prompts": [{"ids": token ids,
"sampling": SamplingParams, "schema": of a JSON answer or nothing}], "batches": requests at once, "mend": whether to
sample rightly (see mend_sampling), "states": the file for states, or nothing}.

OUT: {"texts": {batch size: [[token ids, text, log-probability of the first token] of every answer]}, "lost": steps that
failed, "accepted": draft tokens, "preempted": requests, "kept": sessions left, "sources": {"drafted or accepted,
source, corpus": draft tokens}}. The drafter's settings come from the environment, as `dresd serve` writes them there.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
}  # fmt: skip

WORKER = "dresd_milvus.serving.vllm_speculator.Speculator"
STATES = 1000
"""States that are kept at most."""


def main() -> None:
    os.environ |= ENVIRONMENT
    from vllm import LLM

    job = json.loads(Path(sys.argv[1]).read_text())
    drafts = {"method": "custom_class", "model": WORKER, "num_speculative_tokens": job["draft_tokens"]}
    engine = LLM(
        job["model"], enforce_eager=True, disable_log_stats=False,
        speculative_config=drafts if job["draft_tokens"] else None, **job["options"],
    )  # fmt: skip
    if job.get("mend"):
        mend_sampling()
    speculator = drafter_of(engine) if job["draft_tokens"] else None
    states: list[tuple[list[int], np.ndarray]] = []
    if speculator and speculator.drafter:
        speculator.drafter.budget = free_drafts()
        if job.get("states"):
            record_states(speculator.drafter, states)
    result = {"texts": {batch: answers(engine, job["prompts"], batch) for batch in job["batches"]}}
    found = {metric.name: getattr(metric, "value", 0) for metric in engine.get_metrics()}
    result["accepted"] = found.get("vllm:spec_decode_num_accepted_tokens", 0)
    result["preempted"] = found.get("vllm:num_preemptions", 0)
    if speculator and speculator.drafter:
        sources = Counter[str]()
        for (event, source, corpus), count in speculator.drafter.counts.items():
            sources[f"{event} {source} {corpus}"] += count
        result |= {"lost": speculator.metrics.lost_steps, "kept": len(speculator.drafter.sessions), "sources": sources}
    if job.get("states"):
        texts = [text for text, _ in states]
        np.savez(job["states"], states=np.array([state for _, state in states]), texts=np.array(json.dumps(texts)))
    Path(sys.argv[2]).write_text(json.dumps(result))


def drafter_of(engine: Any) -> Any:
    """The speculator of the first rank; None where that is in another process."""
    worker = getattr(engine.llm_engine.model_executor, "driver_worker", None)
    return worker and worker.worker.model_runner.drafter


def free_drafts() -> Any:
    """A budget in which draft tokens cost nothing, so that drafts do not depend on how busy this machine is."""
    from dresd_milvus.decoding.step_costs import StepCosts
    from dresd_milvus.serving.chain_budget import ChainBudget

    return ChainBudget(StepCosts({1: 1e9, 1024: 1e9}))


def record_states(drafter: Any, states: list[tuple[list[int], np.ndarray]]) -> None:
    """Keep (text, the state that its last token came from) of the requests that the drafter is given."""
    propose = drafter.propose

    def recording(requests: Any) -> Any:
        for r in requests[: STATES - len(states)]:
            states.append(([int(token) for token in r.tokens], r.states[r.row].float().numpy().copy()))
        return propose(requests)

    drafter.propose = recording


def mend_sampling() -> None:
    """Have vLLM's CPU build sample by temperature, top-k and top-p beside drafts.

    vLLM 0.32 expands these numbers to draft tokens into a copy that it drops (cpu_triton_utils._expand_kernel_impl), so
    that on a CPU sampled texts are wrong beside any drafter. This is not done for users: it is vLLM's to mend.
    """
    from vllm.v1.sample import rejection_sampler

    def expand(batch: Any, counts: Any, tokens: int, replace_from: int = 0, replace_to: int = 0) -> Any:
        ends = counts.tolist()
        parts = [value.repeat(end - start) for value, start, end in zip(batch, [0, *ends], ends, strict=False)]
        import torch

        expanded = torch.cat(parts)[:tokens]
        return torch.where(expanded == replace_from, replace_to, expanded) if replace_from != replace_to else expanded

    rejection_sampler.expand_batch_to_tokens = expand


def answers(engine: Any, asked: list[dict[str, Any]], batch: int) -> list[list[Any]]:
    """[token ids, text, log-probability of the first token] of every answer, `batch` prompts at a time."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    found = list[list[Any]]()
    for first in range(0, len(asked), batch):
        part, wishes = asked[first : first + batch], []
        for prompt in part:
            schema = prompt.get("schema")
            structured = StructuredOutputsParams(json=schema) if schema else None
            wishes.append(SamplingParams(**prompt["sampling"], structured_outputs=structured))
        for done in engine.generate([{"prompt_token_ids": p["ids"]} for p in part], wishes, use_tqdm=False):
            for answer in done.outputs:
                ids, probable = list(answer.token_ids), answer.logprobs
                found.append([ids, answer.text, probable[0][ids[0]].logprob if probable else None])
    return found


if __name__ == "__main__":
    main()

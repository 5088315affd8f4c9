"""Answers prompts by vLLM in this process, with this project's drafter or without; run in vLLM's own environment.

    python tests/serving/engine.py FOLDER DRAFT_TOKENS PROMPTS.json OUT.json

PROMPTS: [{"ids": token ids, "xargs": what a request says in its vllm_xargs}]. OUT: {"texts": {batch size: [token ids
of every prompt]}, "lost": steps that failed, "accepted": draft tokens, "kept": sessions that are left, "sources":
{"drafted or accepted, source, corpus": draft tokens}}. The drafter's settings come from the environment, as `dresd
serve` writes them there.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
}  # fmt: skip

WORKER = "dresd_milvus.serving.vllm_speculator.Speculator"
BATCHES, TOKENS, CONTEXT, CHUNK = (1, 4, 16), 24, 96, 64
"""Requests at once; tokens of an answer; the model's context, which some prompts nearly fill; tokens of a pass at most,
fewer than some batches have, so that prompts are read in chunks."""


def main() -> None:
    os.environ |= ENVIRONMENT
    from vllm import LLM

    folder, draft_tokens, prompts, out = sys.argv[1:]
    drafting = {"method": "custom_class", "model": WORKER, "num_speculative_tokens": int(draft_tokens)}
    engine = LLM(
        folder, dtype="float32", enforce_eager=True, max_model_len=CONTEXT, max_num_seqs=max(BATCHES),
        max_num_batched_tokens=CHUNK, disable_log_stats=False,
        speculative_config=drafting if int(draft_tokens) else None,
    )  # fmt: skip
    if int(draft_tokens):
        drafter = engine.llm_engine.model_executor.driver_worker.worker.model_runner.drafter
        drafter.drafter.budget = free_drafts()
    asked = json.loads(Path(prompts).read_text())
    texts = {batch: answers(engine, asked, batch) for batch in BATCHES}
    found = {metric.name: getattr(metric, "value", 0) for metric in engine.get_metrics()}
    result = {"texts": texts, "accepted": found.get("vllm:spec_decode_num_accepted_tokens", 0)}
    if int(draft_tokens):
        sources = Counter[str]()
        for (event, source, corpus), count in drafter.drafter.counts.items():
            sources[f"{event} {source} {corpus}"] += count
        result |= {"lost": drafter.metrics.lost_steps, "kept": len(drafter.drafter.sessions), "sources": sources}
    Path(out).write_text(json.dumps(result))


def free_drafts() -> Any:
    """A budget in which draft tokens cost nothing, so that drafts do not depend on how busy this machine is."""
    from dresd_milvus.decoding.step_costs import StepCosts
    from dresd_milvus.serving.chain_budget import ChainBudget

    return ChainBudget(StepCosts({1: 1e9, 1024: 1e9}))


def answers(engine: Any, asked: list[dict[str, Any]], batch: int) -> list[list[int]]:
    """Greedy answers, `batch` prompts at a time."""
    from vllm import SamplingParams

    texts = list[list[int]]()
    for first in range(0, len(asked), batch):
        part = asked[first : first + batch]
        prompts = [{"prompt_token_ids": prompt["ids"]} for prompt in part]
        wishes = [SamplingParams(temperature=0, max_tokens=TOKENS, extra_args=prompt["xargs"]) for prompt in part]
        texts += [list(done.outputs[0].token_ids) for done in engine.generate(prompts, wishes, use_tqdm=False)]
    return texts


if __name__ == "__main__":
    main()

"""The decoding loop against transformers' own, same model, same prompts, same run.

vanilla against `generate`, and prompt lookup against `generate(prompt_lookup_num_tokens=10)`, both greedy; whole
calls are timed, prefill included on both sides. Ratios are ours over theirs: above 1 is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch
from common import alternate, arguments, prompts, ratio, report

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.prompt_lookup import PromptLookup
from dresd_milvus.models.loading import load_model

DEPTH = 10
"""Draft tokens a step for both prompt lookups (transformers' documentation uses 10)."""


def main() -> None:
    options = arguments(__doc__ or "", prompts=8, tokens=128, repeats=9)
    model = load_model("sample")
    texts = prompts(model, options.prompts)

    def ours(drafter: Drafter) -> Callable[[], float]:
        def measure() -> float:
            start, made = perf_counter(), 0
            for ids in texts:
                budget = FixedBudget(nodes=DEPTH, depth=DEPTH)
                made += len(generate(model.target, drafter, Greedy(), ids, options.tokens, budget).tokens)
            return made / (perf_counter() - start)

        return measure

    def theirs(**keywords: int) -> Callable[[], float]:
        def measure() -> float:
            start, made = perf_counter(), 0
            for ids in texts:
                inputs = torch.tensor([ids])
                output = model.target.model.generate(
                    inputs,
                    attention_mask=torch.ones_like(inputs),
                    max_new_tokens=options.tokens,
                    do_sample=False,
                    **keywords,
                )
                made += output.shape[1] - len(ids)
            return made / (perf_counter() - start)

        return measure

    speeds = alternate(
        {
            "vanilla": ours(Vanilla()),
            "transformers": theirs(),
            "prompt_lookup": ours(PromptLookup()),
            "transformers prompt lookup": theirs(prompt_lookup_num_tokens=DEPTH),
        },
        options.repeats,
    )
    results = {
        "vanilla / transformers generate": ratio(speeds["vanilla"], speeds["transformers"]),
        "prompt_lookup / transformers prompt lookup": ratio(
            speeds["prompt_lookup"], speeds["transformers prompt lookup"]
        ),
    }
    report(results, model, options)


if __name__ == "__main__":
    main()

"""Measures the decoding loop against transformers' own `generate`: tokens a second, same model, same prompts, in turns.

On: the sample model and held-out functions of the standard library, greedy. Plain decoding is compared with `generate`,
and prompt lookup with `generate(prompt_lookup_num_tokens=10)`. Whole calls are timed, with prefill on both sides.
Run: python benchmarks/engine.py
Prints: JSON with ratios, ours over theirs (above 1: ours is faster), and their 95 % intervals.
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
"""Draft tokens a step of both prompt lookups: 10, as in the documentation of transformers."""


def main() -> None:
    options = arguments(__doc__ or "", prompts=8, tokens=128, repeats=9)
    model = load_model("sample")
    texts = prompts(model, options.prompts)

    def ours(drafter: Drafter) -> Callable[[], float]:
        def measure() -> float:
            start, tokens = perf_counter(), 0
            for ids in texts:
                budget = FixedBudget(nodes=DEPTH, depth=DEPTH)
                tokens += len(generate(model.target, drafter, Greedy(), ids, options.tokens, budget).tokens)
            return tokens / (perf_counter() - start)

        return measure

    def theirs(**keywords: int) -> Callable[[], float]:
        def measure() -> float:
            start, tokens = perf_counter(), 0
            for ids in texts:
                inputs = torch.tensor([ids])
                output = model.target.model.generate(
                    inputs,
                    attention_mask=torch.ones_like(inputs),
                    max_new_tokens=options.tokens,
                    do_sample=False,
                    **keywords,
                )
                tokens += output.shape[1] - len(ids)
            return tokens / (perf_counter() - start)

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

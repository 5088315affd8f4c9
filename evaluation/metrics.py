"""What is measured, one definition each. Every step counts in every metric, with or without a draft.

mat                 mean accepted tokens per step, the bonus token included: tokens / steps; plain decoding has 1.00
hit_rate            share of steps that had a draft
path_acceptance     accepted / depth of the draft tree, over the steps with a draft (sums, not a mean of ratios)
node_acceptance     accepted / draft nodes, over the steps with a draft (the root is not counted)
tokens_per_second   all tokens / all decoding time, prefill apart
speedup             tokens_per_second over vanilla's on the same prompts in the same run
speedup_interval    95 % of 2 000 bootstrap resamples of the prompts
speedup_by_prompt   10th, 50th and 90th percentile over prompts
draft_ms, verify_ms asking the drafter; the target's forward pass (choose: picks along the path, cache upkeep)
accepted_by_depth   share of the steps with a draft in which at least 1, 2, ... draft tokens were accepted
identical           prompts whose tokens are vanilla's
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Record = dict[str, Any]
"""One line of records.jsonl; see harness.make_record."""

RESAMPLES = 2_000
DEEPEST = 10


def summarise(records: Sequence[Record], vanilla: Sequence[Record]) -> dict[str, Any]:
    """The metrics of one system over its records, against vanilla's records of the same prompts."""
    nodes, depth, accepted = (_steps(records, name) for name in ("nodes", "depth", "accept_lengths"))
    drafted = nodes > 0
    times = {name: _steps(records, f"{name}_ms") for name in ("draft", "verify", "choose", "total")}
    speedup, interval, spread = speed_ratio(records, vanilla)
    return {
        "prompts": len(records),
        "steps": len(nodes),
        "new_tokens": sum(record["new_tokens"] for record in records),
        "mat": sum(record["new_tokens"] for record in records) / max(len(nodes), 1),
        "tokens_per_second": tokens_per_second(records),
        "speedup": speedup,
        "speedup_interval": interval,
        "speedup_by_prompt": spread,
        "hit_rate": float(drafted.mean()) if len(nodes) else 0.0,
        "path_acceptance": _ratio(accepted[drafted].sum(), depth[drafted].sum()),
        "node_acceptance": _ratio(accepted[drafted].sum(), nodes[drafted].sum()),
        "nodes_mean": float(nodes.mean()) if len(nodes) else 0.0,
        "draft_ms_p50": _percentile(times["draft"], 50),
        "draft_ms_p95": _percentile(times["draft"], 95),
        "verify_ms_p50": _percentile(times["verify"], 50),
        "step_ms_mean": {name: float(value.mean()) if len(value) else 0.0 for name, value in times.items()},
        "prefill_ms_mean": float(np.mean([record["prefill_ms"] for record in records])),
        "accepted_by_depth": [
            float((accepted[drafted] >= at).mean()) if drafted.any() else 0.0 for at in range(1, DEEPEST + 1)
        ],
    }


def tokens_per_second(records: Sequence[Record]) -> float:
    """All tokens over all decoding time."""
    return 1e3 * _ratio(sum(r["new_tokens"] for r in records), sum(r["decoding_ms"] for r in records))


def speed_ratio(records: Sequence[Record], vanilla: Sequence[Record]) -> tuple[float, list[float], list[float]]:
    """(speed-up of totals, its 95 % bootstrap interval over prompts, its 10/50/90 percentiles over prompts)."""
    ours, theirs = (
        np.array([(r["new_tokens"], r["decoding_ms"]) for r in of], np.float64).reshape(-1, 2)
        for of in (records, vanilla)
    )
    pick = np.random.default_rng(0).integers(0, len(ours), (RESAMPLES, len(ours)))
    resampled = [(part[:, 0] / part[:, 1]) for part in (ours[pick].sum(1), theirs[pick].sum(1))]
    by_prompt = (ours[:, 0] / ours[:, 1]) / (theirs[:, 0] / theirs[:, 1])
    total = tokens_per_second(records) / tokens_per_second(vanilla)
    low, high = np.percentile(resampled[0] / resampled[1], [2.5, 97.5])
    return total, [float(low), float(high)], [float(p) for p in np.percentile(by_prompt, [10, 50, 90])]


def _steps(records: Sequence[Record], name: str) -> NDArray[Any]:
    """A per-step quantity of all records, end to end."""
    return np.concatenate([np.asarray(record[name], np.float64) for record in records])


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _percentile(values: NDArray[Any], q: float) -> float:
    return float(np.percentile(values, q)) if len(values) else 0.0

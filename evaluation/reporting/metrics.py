"""What is measured, one definition each. Every step counts in every metric, with or without a draft.

Of acceptance
  mat                 mean accepted tokens per step, the bonus token included: tokens / steps; plain decoding has 1.00
  accepted_length     the same without the bonus: mat - 1
  hit_rate            share of steps that had a draft
  path_acceptance     accepted / depth of the draft tree, over the steps with a draft (sums, not a mean of ratios)
  node_acceptance     accepted / draft nodes, over the steps with a draft (the root is not counted)
  accepted_from       shares of accepted draft tokens by source: the text itself, exact matches in the corpus, dense
                      hits, recycling. Of sources that agree for as long, the first in this order has the tokens, so
                      that dense has what no exact match had. Composites only
  accepted_by_depth   share of the steps with a draft in which at least 1, 2, ... draft tokens were accepted

Of speed: of what was generated more than once, the median time of every text
  tokens_per_second   all tokens / all decoding time, prefill apart
  tokens_per_second_with_prefill   all tokens / all time from the prompt on
  speedup             tokens_per_second over vanilla's on the same prompts in the same run
  speedup_interval    95 % of 2 000 bootstrap resamples of the prompts
  speedup_by_prompt   10th, 50th and 90th percentile over prompts
  draft_ms            asking the drafter, retrieval and tree; verify_ms: the target's forward pass; step_ms_mean has
                      also choose: picks along the path and cache upkeep

Of losslessness
  texts, prompts      a prompt of several turns has as many texts; compared: those whose earlier turns are vanilla's too
  identical           texts whose tokens are vanilla's; explained: those that are not, where the two best scores were
                      less than EXPLAINED apart; first_divergences: all that are not

Others' definitions, to set beside their figures (see docs/evaluation.md)
  dresd               DReSD's evaluate.py: steps without a draft are left out, the bonus is not counted, and time
                      includes the prefill
  spec_bench          Spec-Bench: tokens per second with prefill, the mean over questions
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.drafters.hybrid.attribution import SOURCES
from evaluation.reporting.bootstrap import interval

Record = dict[str, Any]
"""One line of records.jsonl; see harness.make_record."""

DEEPEST = 10

EXPLAINED = 1e-4
"""A gap of the two best scores that another order of summation may bridge in float32."""


def summarise(records: Sequence[Record], vanilla: Sequence[Record]) -> dict[str, Any]:
    """The metrics of one system over its records, against vanilla's records of the same prompts."""
    speed = speed_metrics(merged(records), merged(vanilla))
    first = [record for record in records if record["repeat"] == 0]
    return {
        "prompts": len({record["index"] for record in first}),
        "texts": len(first),
        **acceptance_metrics(first),
        **speed,
        **lossless_metrics(first),
        "dresd": dresd(first),
    }


def merged(records: Sequence[Record]) -> list[Record]:
    """A record a text: the first of its repeats, with the median times of all."""
    by_text: dict[tuple[Any, Any], list[Record]] = {}
    for record in records:
        by_text.setdefault((record["index"], record["turn"]), []).append(record)
    return [
        {**same[0], **{name: float(np.median([r[name] for r in same])) for name in ("decoding_ms", "prefill_ms")}}
        for same in by_text.values()
    ]


def acceptance_metrics(records: Sequence[Record]) -> dict[str, Any]:
    """How much of what was drafted was accepted, and where the time of a step went."""
    nodes, depth, accepted = (_steps(records, name) for name in ("nodes", "depth", "accept_lengths"))
    drafted = nodes > 0
    times = {name: _steps(records, f"{name}_ms") for name in ("draft", "verify", "choose", "total")}
    tokens = sum(record["new_tokens"] for record in records)
    return {
        "steps": len(nodes),
        "new_tokens": tokens,
        "mat": tokens / max(len(nodes), 1),
        "accepted_length": tokens / max(len(nodes), 1) - 1,
        "hit_rate": float(drafted.mean()) if len(nodes) else 0.0,
        "path_acceptance": _ratio(accepted[drafted].sum(), depth[drafted].sum()),
        "node_acceptance": _ratio(accepted[drafted].sum(), nodes[drafted].sum()),
        "nodes_mean": float(nodes.mean()) if len(nodes) else 0.0,
        "draft_ms_p50": _percentile(times["draft"], 50),
        "draft_ms_p95": _percentile(times["draft"], 95),
        "verify_ms_p50": _percentile(times["verify"], 50),
        "step_ms_mean": {name: float(value.mean()) if len(value) else 0.0 for name, value in times.items()},
        "accepted_from": _shares(records),
        "accepted_by_depth": [
            float((accepted[drafted] >= at).mean()) if drafted.any() else 0.0 for at in range(1, DEEPEST + 1)
        ],
    }


def _shares(records: Sequence[Record]) -> dict[str, float]:
    """The share of each source in the accepted draft tokens; records of earlier versions do not know."""
    counts = sum((Counter(record.get("accepted_from", {})) for record in records), Counter[str]())
    return {source: counts[source] / counts.total() for source in dict.fromkeys(SOURCES) if counts[source]}


def speed_metrics(records: Sequence[Record], vanilla: Sequence[Record]) -> dict[str, Any]:
    """Speeds of merged records against vanilla's, over the texts that both have."""
    pairs = paired(records, vanilla)
    ours, theirs = (_by_prompt([pair[side] for pair in pairs]) for side in (0, 1))
    speedup, edges, spread = speed_ratio(ours, theirs)
    return {
        "tokens_per_second": 1e3 * _ratio(ours[:, 0].sum(), ours[:, 1].sum()),
        "tokens_per_second_with_prefill": 1e3 * _ratio(ours[:, 0].sum(), ours[:, 1:].sum()),
        "speedup": speedup,
        "speedup_interval": edges,
        "speedup_by_prompt": spread,
        "prefill_ms_mean": float(np.mean([record["prefill_ms"] for record in records])),
        "spec_bench": {"tokens_per_second": float(np.mean(1e3 * ours[:, 0] / ours[:, 1:].sum(axis=1)))},
    }


def paired(records: Sequence[Record], vanilla: Sequence[Record]) -> list[tuple[Record, Record]]:
    """(a text, vanilla's of the same prompt and turn): a conversation may fill the context a turn earlier in one."""
    plain = {(record["index"], record["turn"]): record for record in vanilla}
    keyed = (((record["index"], record["turn"]), record) for record in records)
    return [(record, plain[key]) for key, record in keyed if key in plain]


def _by_prompt(records: Sequence[Record]) -> NDArray[np.float64]:
    """(new tokens, decoding ms, prefill ms) [prompts, 3], the turns of a prompt together."""
    sums: dict[Any, NDArray[np.float64]] = {}
    for r in records:
        of = np.array([r["new_tokens"], r["decoding_ms"], r["prefill_ms"]], np.float64)
        sums[r["index"]] = sums.get(r["index"], np.zeros(3)) + of
    return np.array(list(sums.values()))


def lossless_metrics(records: Sequence[Record]) -> dict[str, Any]:
    """Whether the texts are vanilla's, and how close the call was where they are not."""
    differing = [record for record in records if record.get("first_difference") is not None]
    compared = [record for record in records if record.get("compared", True)]
    return {
        "compared": len(compared),
        "identical": sum(record.get("first_difference") is None for record in compared),
        "explained": sum(record["gap"] < EXPLAINED for record in differing),
        "first_divergences": [
            {"prompt_id": record["prompt_id"], "position": record["first_difference"], "gap": record["gap"]}
            for record in differing
        ],
    }


def dresd(records: Sequence[Record]) -> dict[str, float]:
    """The figures of DReSD's released evaluate.py, by its own definitions (it truncates seconds to whole ones).

    acceptance_rate: accepted over the length of one draft row, sums over the steps with a draft;
    acceptance_rate_sequence: the mean of those steps' ratios; accepted_length: without the bonus, over those steps.
    """
    nodes, depth, accepted = (_steps(records, name) for name in ("nodes", "depth", "accept_lengths"))
    drafted = nodes > 0
    ratios = accepted[drafted] / depth[drafted]
    seconds = int(sum(record["decoding_ms"] + record["prefill_ms"] for record in records) / 1e3)
    return {
        "acceptance_rate": _ratio(accepted[drafted].sum(), depth[drafted].sum()),
        "acceptance_rate_sequence": float(ratios.mean()) if len(ratios) else 0.0,
        "accepted_length": float(accepted[drafted].mean()) if drafted.any() else 0.0,
        "tokens_per_second": float(sum(record["new_tokens"] for record in records) // max(seconds, 1)),
    }


def speed_ratio(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, list[float], list[float]]:
    """(speed-up of totals, its 95 % bootstrap interval over prompts, its 10/50/90 percentiles over prompts).

    ours, theirs: [prompts, >= 2], tokens and milliseconds of the same prompts.
    """

    def ratio(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
        sums, others = ours.sum(-2), theirs.sum(-2)
        return (sums[..., 0] / sums[..., 1]) / (others[..., 0] / others[..., 1])

    by_prompt = ratio(ours[:, None], theirs[:, None])
    spread = [float(p) for p in np.percentile(by_prompt, [10, 50, 90])]
    return float(ratio(ours, theirs)), interval(ratio, ours, theirs), spread


def _steps(records: Sequence[Record], name: str) -> NDArray[Any]:
    """A per-step quantity of all records, end to end."""
    return np.concatenate([np.asarray(record[name], np.float64) for record in records])


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _percentile(values: NDArray[Any], q: float) -> float:
    return float(np.percentile(values, q)) if len(values) else 0.0

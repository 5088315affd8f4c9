"""From blocks to figures: one entry a server, the others compared with the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.reporting.bootstrap import interval
from evaluation.traffic.counters import Counters, between, total
from evaluation.traffic.measuring import Answer, Block

Figures = dict[str, Any]
"""The figures of one server; None for what cannot be known."""


def summarise(blocks: Sequence[Block], greedy: bool) -> list[Figures]:
    """The figures of every server, in the order of their first blocks.

    greedy: whether texts can be compared. Ratios are to the first server, over the rounds that both have whole; their
    intervals are over rounds, and None for fewer than two.
    """
    names = list(dict.fromkeys(block.server for block in blocks))
    by_server = {name: [block for block in blocks if block.server == name] for name in names}
    first = by_server[names[0]] if names else []
    return [
        {"server": name, **_alone(mine), **_beside(mine, first), **_texts(mine, first, greedy)}
        for name, mine in by_server.items()
    ]


def over_time(blocks: Iterable[Block]) -> list[Figures]:
    """What a server's own counters say from sample to sample, its blocks one behind the other."""
    points, before = [], 0.0
    for block in blocks:
        for sample in between(block.samples):
            points.append({"seconds": round(before + sample.seconds, 3), **_drafts(sample.counters)})
        before += block.seconds
    return points


def _alone(blocks: Sequence[Block]) -> Figures:
    answers = [answer for block in blocks for answer in block.answers]
    good = [answer for answer in answers if not answer.failure]
    failures = Counter(answer.failure for answer in answers if answer.failure)
    tokens, seconds = sum(answer.tokens for answer in good), sum(block.seconds for block in blocks)
    begun = [(answer, answer.first) for answer in good if answer.first is not None]
    return {
        "asked": len(answers),
        "answered": len(good),
        "failures": dict(failures.most_common()),
        "first_failures": {answer.failure: answer.message for answer in reversed(answers) if answer.failure},
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds if seconds else None,
        "latency_p50": _percentile([answer.latency for answer in good], 50),
        "latency_p95": _percentile([answer.latency for answer in good], 95),
        "first_token_p50": _percentile([first - answer.arrived for answer, first in begun], 50),
        "token_p50": _percentile(
            [(answer.ended - first) / (answer.tokens - 1) for answer, first in begun if answer.tokens > 1], 50
        ),
        "client_lag_p95": _percentile([lag for block in blocks for lag in block.lags], 95),
        **_drafts(total(sample for block in blocks for sample in between(block.samples))),
    }


def _drafts(counted: Counters) -> Figures:
    """Drafted and accepted tokens, all and by source, and tokens a step: every step of a request gives the accepted
    tokens and one more, so T tokens with A of them accepted took T - A steps."""
    drafted, accepted, generated = (counted.get((what, ""), 0.0) for what in ("drafted", "accepted", "generated"))
    sources = sorted({source for _, source in counted} - {""})
    return {
        "drafted": drafted,
        "accepted": accepted,
        "acceptance": accepted / drafted if drafted else None,
        "tokens_per_step": generated / (generated - accepted) if generated > accepted else None,
        "by_source": {
            source: {what: counted.get((what, source), 0.0) for what in ("drafted", "accepted")} for source in sources
        },
    }


def _beside(mine: Sequence[Block], first: Sequence[Block]) -> Figures:
    """Tokens a second, and mean latency of the prompts that both have answered, over the first server's."""
    theirs = {block.turn: block for block in first if block.whole}
    pairs = [(block, theirs[block.turn]) for block in mine if block.whole and block.turn in theirs]
    speeds = [[(_tokens(block), block.seconds) for block in pair] for pair in pairs]
    waits = [[(sum(side), len(side)) for side in _latencies(*pair)] for pair in pairs]
    return {**_ratio("speedup", speeds), **_ratio("latency_ratio", waits)}


def _ratio(name: str, rounds: Sequence[Any]) -> Figures:
    """rounds: [R, 2 servers, 2]: of each round the server's amount, then what that is divided by; then the first's."""

    def statistic(drawn: NDArray[np.float64]) -> Any:
        sums = drawn.sum(-3)
        means = sums[..., 0] / sums[..., 1]
        return means[..., 0] / means[..., 1]

    table = np.array(rounds, float)
    if not (len(table) and (table > 0).all()):
        return {name: None, f"{name}_interval": None}
    return {name: float(statistic(table)), f"{name}_interval": interval(statistic, table) if len(table) > 1 else None}


def _latencies(a: Block, b: Block) -> tuple[list[float], list[float]]:
    ours, theirs = _good([a]), _good([b])
    both = [prompt for prompt in ours if prompt in theirs]
    return [ours[prompt].latency for prompt in both], [theirs[prompt].latency for prompt in both]


def _texts(mine: Sequence[Block], first: Sequence[Block], greedy: bool) -> Figures:
    """How many texts of those that both have are the same."""
    ours, theirs = _good(mine), _good(first)
    both = [prompt for prompt in ours if prompt in theirs]
    same = sum(ours[prompt].text == theirs[prompt].text for prompt in both)
    return {"compared": len(both), "same_texts": same if greedy else None}


def _good(blocks: Iterable[Block]) -> dict[int, Answer]:
    return {answer.prompt: answer for block in blocks for answer in block.answers if not answer.failure}


def _tokens(block: Block) -> int:
    return sum(answer.tokens for answer in block.answers)


def _percentile(values: Sequence[float], share: float) -> float | None:
    return float(np.percentile(values, share)) if values else None

"""What a server counts itself, under /metrics in Prometheus' text format: tokens generated, drafted and accepted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

COUNTED = {
    "vllm:generation_tokens_total": "generated",
    "vllm:spec_decode_num_drafts_total": "drafts",
    "vllm:spec_decode_num_draft_tokens_total": "drafted",
    "vllm:spec_decode_num_accepted_tokens_total": "accepted",
    "dresd_drafted_tokens_total": "drafted",
    "dresd_accepted_tokens_total": "accepted",
}
"""What is read, and what it counts. Those of dresd have a label `source`."""

LINE = re.compile(r"([\w:]+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Counters = dict[tuple[str, str], float]
"""Counts by what is counted and the source of drafts, '' for vLLM's own counters."""


class Sample(NamedTuple):
    """Counters at a time, in seconds from the beginning of a block."""

    seconds: float
    counters: Counters


def read_counters(text: str) -> Counters:
    """The counters of COUNTED in a text, summed over all labels but `source`; lines of any other kind are ignored."""
    found: Counters = {}
    for name, labels, value in (line.groups() for line in map(LINE.match, text.splitlines()) if line):
        if name in COUNTED:
            source = dict(LABEL.findall(labels or "")).get("source", "unknown") if name.startswith("dresd") else ""
            key = COUNTED[name], source
            found[key] = found.get(key, 0.0) + float(value)
    return found


def growth(before: Counters, after: Counters) -> Counters:
    """What was counted between; a counter that is lower than before has begun again at 0, with its server."""
    changes = {key: value - before.get(key, 0.0) for key, value in after.items()}
    return {key: after[key] if change < 0 else change for key, change in changes.items()}


def between(samples: Iterable[Sample]) -> list[Sample]:
    """What was counted from each sample to the next, at the time of the latter."""
    return [Sample(b.seconds, growth(a.counters, b.counters)) for a, b in pairwise(samples)]


def total(samples: Iterable[Sample]) -> Counters:
    """The sum of what several samples have counted (see between)."""
    found: Counters = {}
    for sample in samples:
        for key, value in sample.counters.items():
            found[key] = found.get(key, 0.0) + value
    return found

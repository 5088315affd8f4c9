"""What a serving drafter counts, for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from prometheus_client import Counter as Metric
from prometheus_client import Histogram

from dresd_milvus.serving.drafting import ACCEPTED, DRAFTED, ChainDrafter

BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
"""Upper ends of the ranges of times, in seconds."""

LABELS = ("source", "corpus")
"""The source of evidence (see attribution.SOURCES), and the corpus that the request named."""

UNKNOWN = "(unknown)"
"""The label of all corpora that the store does not have: labels that clients choose would never end."""


class ServingMetrics:
    """Counters of draft tokens by source and corpus, times, and what was lost.

    corpora: the names that the store has. lost_steps: steps so far in which drafting failed.
    """

    def __init__(self, corpora: Sequence[str]) -> None:
        self._corpora = frozenset(corpora)
        self._tokens = {
            event: Metric(f"dresd_{event}_tokens", f"Draft tokens that were {told}, by source and corpus", LABELS)
            for event, told in ((DRAFTED, "verified"), (ACCEPTED, "accepted"))
        }
        self._drafting = Histogram("dresd_drafting_seconds", "Time in which a step was drafted", buckets=BUCKETS)
        self._search = Histogram("dresd_search_seconds", "Time of an answered search on a server", buckets=BUCKETS)
        self._lost_steps = Metric("dresd_lost_steps", "Steps without drafts because drafting failed")
        self._lost_searches = Metric("dresd_lost_searches", "Searches that a server did not answer in time")
        self._told: Counter[tuple[str, str, str | None]] = Counter()
        self._failures = self.lost_steps = 0

    def drafted(self, drafter: ChainDrafter, seconds: float) -> None:
        """A step was drafted in so much time: add what has been counted since the last one."""
        self._drafting.observe(seconds)
        for (event, source, corpus), count in (drafter.counts - self._told).items():
            label = corpus if not corpus or corpus in self._corpora else UNKNOWN
            self._tokens[event].labels(source, label or "").inc(count)
        self._told = drafter.counts.copy()
        for server in drafter.servers:
            while server.answered:
                self._search.observe(server.answered.popleft())
        failures = sum(server.failures for server in drafter.servers)
        self._lost_searches.inc(failures - self._failures)
        self._failures = failures

    def lost(self) -> None:
        """Drafting failed in a step."""
        self.lost_steps += 1
        self._lost_steps.inc()

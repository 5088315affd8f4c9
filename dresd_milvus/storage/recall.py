"""Recall@10 against exact search, and latency, of each search plan of a store, for `dresd inspect`."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.retrieval.store import NEIGHBOURS

AT = 10
"""Number of nearest rows that recall counts."""

QUERIES = 200
"""Number of stored keys that are searched."""

NOISE = 0.05
"""Standard deviation of the noise on each coordinate of a key: at 64 dimensions the cosine to the key is 0.93."""

ENOUGH = 0.95
"""Recall below which a plan gets a warning."""

TIE = 1e-5
"""Scores that differ by less than this are equal."""


class PlanRecall(NamedTuple):
    """The measurement of one plan.

    stored, perturbed: mean recall@10 of keys of the store and of keys near them. mrr: mean reciprocal rank of a stored
    key's own row among the 50 hits, 0 where it is missing (MRR@50 of DReSD, 2502.15572). p50_ms, p95_ms: percentiles
    of the milliseconds of one search.
    """

    plan: str
    stored: float
    perturbed: float
    mrr: float
    p50_ms: float
    p95_ms: float

    @property
    def enough(self) -> bool:
        """Whether both recalls reach ENOUGH."""
        return min(self.stored, self.perturbed) >= ENOUGH


class _Truth:
    """The exact nearest rows of every query among the rows of its first token, collected from batches of rows."""

    def __init__(self, queries: NDArray[np.float32], tokens: NDArray[np.int64], size: int) -> None:
        self.queries, self.tokens = queries, tokens
        self.scores = [np.empty(0, np.float32) for _ in queries]
        self.continuations = [np.empty((0, size), np.int32) for _ in queries]

    def add(self, vectors: NDArray[np.float32], continuations: NDArray[np.int32]) -> None:
        for index, (query, token) in enumerate(zip(self.queries, self.tokens, strict=True)):
            mine = continuations[:, 0] == token
            if mine.any():
                scores = np.concatenate((self.scores[index], vectors[mine] @ query))
                # All rows that tie with the tenth are kept: each of them is a right answer.
                edge = np.partition(scores, -AT)[-AT] - TIE if len(scores) > AT else -np.inf
                kept = scores >= edge
                self.scores[index] = scores[kept]
                self.continuations[index] = np.concatenate((self.continuations[index], continuations[mine]))[kept]

    def recall(self, index: int, found: NDArray[np.int32]) -> float:
        """Recall of a query whose hits have the continuations `found` [n, N]; rows are compared by continuation."""
        count = min(AT, len(self.scores[index]))
        true = {row.tobytes() for row in self.continuations[index]}
        return sum(row.tobytes() in true for row in found[:count]) / count


def sample_queries(
    vectors: NDArray[np.float32], tokens: NDArray[np.int64], seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Queries from stored keys: (queries, tokens).

    vectors: [Q, d]. tokens: [Q], first tokens of their rows. queries: float32 [2 Q, d], the keys and then the same keys
    with noise. tokens: int64 [2 Q], of the queries.
    """
    noise = np.random.default_rng(seed).normal(0, NOISE, vectors.shape).astype(np.float32)
    near = vectors + noise
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    return np.concatenate((vectors, near)), np.concatenate((tokens, tokens))


def measure_recall(store: MilvusStore, progress: Callable[[int], None] = lambda rows: None) -> list[PlanRecall]:
    """Measure every plan that the collection allows; the best comes first. Reads all rows twice.

    progress: gets the number of rows of every batch. Raises StoreError for a store without rows.
    """
    vectors, own = _sample(store, progress)
    tokens = own[:, 0].astype(np.int64)
    if not len(tokens):
        raise StoreError(f"the collection '{store.collection}' holds no rows; there is nothing to measure")
    queries, wanted = sample_queries(vectors, tokens)
    truth = _Truth(queries, wanted, store.manifest.continuation)
    for rows in store.scan():
        truth.add(rows.vectors, rows.next_tokens)
        progress(len(rows))
    found = [_measure(store, plan, truth, own) for plan in store.plans()]
    return sorted(found, key=lambda plan: (not plan.enough, plan.p50_ms if plan.enough else -plan.stored))


def _sample(store: MilvusStore, progress: Callable[[int], None]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """(keys, continuations) of QUERIES rows drawn at random: those with the smallest random numbers."""
    random = np.random.default_rng(0)
    keys = np.empty((0, store.manifest.dim), np.float32)
    own, lots = np.empty((0, store.manifest.continuation), np.int32), np.empty(0)
    for rows in store.scan():
        lots = np.concatenate((lots, random.random(len(rows))))
        keys, own = np.concatenate((keys, rows.vectors)), np.concatenate((own, rows.next_tokens))
        drawn = np.argsort(lots)[:QUERIES]
        keys, own, lots = keys[drawn], own[drawn], lots[drawn]
        progress(len(rows))
    return keys, own


def _measure(store: MilvusStore, plan: str, truth: _Truth, own: NDArray[np.int32]) -> PlanRecall:
    """Measure one plan. own: [Q, N], continuations of the rows whose keys are the first half of the queries."""
    searcher, recalls, ranks, times = store.searcher(plan), list[float](), list[float](), list[float]()
    try:
        searcher(truth.queries[:1], truth.tokens[:1], NEIGHBOURS)
        for index in range(len(truth.queries)):
            begun = perf_counter()
            hits = searcher(truth.queries[index : index + 1], truth.tokens[index : index + 1], NEIGHBOURS)
            times.append(1e3 * (perf_counter() - begun))
            recalls.append(truth.recall(index, hits.continuations[0]))
            if index < len(own):
                same = np.flatnonzero((hits.continuations[0] == own[index]).all(axis=1))
                ranks.append(1 / (1 + int(same[0])) if len(same) else 0.0)
    finally:
        searcher.close()
    half = len(recalls) // 2
    return PlanRecall(
        plan,
        float(np.mean(recalls[:half])),
        float(np.mean(recalls[half:])),
        float(np.mean(ranks)),
        float(np.median(times)),
        float(np.percentile(times, 95)),
    )

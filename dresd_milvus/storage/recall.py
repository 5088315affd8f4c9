"""How much of the truth each search plan finds, and how fast: recall@10 against exact search, for `dresd inspect`."""

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
QUERIES = 200

NOISE = 0.05
"""Standard deviation of what is added to each of a key's coordinates: at 64 dimensions the cosine to it is 0.93."""

ENOUGH = 0.95
"""A plan that finds less than this is warned of."""

TIE = 1e-5


class PlanRecall(NamedTuple):
    """stored, perturbed: mean recall@10 on keys of the store and on keys near them. mrr: mean reciprocal rank of a
    stored key's own row among the 50 hits, 0 where it is missing (DReSD's MRR@50). Milliseconds for one query.
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
    """The exact nearest rows of every query among the rows of its first token, gathered over batches of rows."""

    def __init__(self, queries: NDArray[np.float32], tokens: NDArray[np.int64], size: int) -> None:
        self.queries, self.tokens = queries, tokens
        self.scores = [np.empty(0, np.float32) for _ in queries]
        self.continuations = [np.empty((0, size), np.int32) for _ in queries]

    def add(self, vectors: NDArray[np.float32], continuations: NDArray[np.int32]) -> None:
        for index, (query, token) in enumerate(zip(self.queries, self.tokens, strict=True)):
            mine = continuations[:, 0] == token
            if mine.any():
                scores = np.concatenate((self.scores[index], vectors[mine] @ query))
                # All ties of the tenth are kept: any of them is as right.
                edge = np.partition(scores, -AT)[-AT] - TIE if len(scores) > AT else -np.inf
                kept = scores >= edge
                self.scores[index] = scores[kept]
                self.continuations[index] = np.concatenate((self.continuations[index], continuations[mine]))[kept]

    def recall(self, index: int, found: NDArray[np.int32]) -> float:
        """Share of the true ten (or of all there are) that the best of `found` [n, N] are; equal continuations are."""
        there = min(AT, len(self.scores[index]))
        true = {row.tobytes() for row in self.continuations[index]}
        return sum(row.tobytes() in true for row in found[:there]) / there


def sample_queries(
    vectors: NDArray[np.float32], tokens: NDArray[np.int64], seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Keys as they are stored [Q, d] and, after them, the same with noise [Q, d]; the first tokens of all [2 Q]."""
    noise = np.random.default_rng(seed).normal(0, NOISE, vectors.shape).astype(np.float32)
    near = vectors + noise
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    return np.concatenate((vectors, near)), np.concatenate((tokens, tokens))


def measure_recall(store: MilvusStore, progress: Callable[[int], None] = lambda rows: None) -> list[PlanRecall]:
    """Every plan that the collection allows, best first. Reads all rows twice."""
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
    """(keys, continuations) of QUERIES rows, each as likely as any other: those with the smallest of random numbers."""
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
    """own: [Q, N], the continuations of the rows whose keys are the first half of the queries."""
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

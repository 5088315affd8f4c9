"""The circuit breaker: a store that fails costs drafts, never an exception or a wait longer than the deadline."""

import threading
import time

import numpy as np

from dresd_milvus.errors import StoreError
from dresd_milvus.retrieval.circuit_breaker import CircuitBreaker
from dresd_milvus.retrieval.store import Hits
from tests.oracle import MemoryStore, example_manifest, example_rows

QUERY, TOKEN = example_rows(1, seed=1).vectors, np.array([1])


class Failing:
    """A remote store that answers while `answers` is set and records the timeouts of its searches."""

    def __init__(self) -> None:
        self.memory = MemoryStore(example_manifest())
        self.memory.write(example_rows(100))
        self.manifest = self.memory.manifest
        self.answers = threading.Event()
        self.answers.set()
        self.timeouts: list[float] = []

    def search(self, queries: np.ndarray, next_tokens: np.ndarray | None, k: int, timeout: float) -> Hits:
        self.timeouts.append(timeout)
        if not self.answers.is_set():
            raise StoreError("it is gone")
        return self.memory.search(queries, next_tokens, k)

    def close(self) -> None:
        pass


def until(condition, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_answers_are_passed_on() -> None:
    store = Failing()
    breaker = CircuitBreaker(store, timeout=0.1)
    hits, expected = breaker.search(QUERY, TOKEN, 5), store.memory.search(QUERY, TOKEN, 5)
    np.testing.assert_array_equal(hits.continuations, expected.continuations)
    assert (breaker.searches, breaker.failures, breaker.failure_summary(), store.timeouts) == (1, 0, "", [0.1])


def test_a_failure_finds_nothing_and_is_counted_with_its_reason() -> None:
    store = Failing()
    breaker = CircuitBreaker(store, timeout=0.1)
    store.answers.clear()
    for _ in range(3):
        hits = breaker.search(QUERY, TOKEN, 5)
        assert hits.scores.shape == (1, 5) and np.isneginf(hits.scores).all() and (hits.continuations == -1).all()
    assert breaker.tripped and breaker.failure_summary() == "3 of 3 searches got no answer within 0.1 s: it is gone"
    breaker.close()


def test_a_tripped_breaker_sends_probes_only() -> None:
    store = Failing()
    breaker = CircuitBreaker(store)
    store.answers.clear()
    for _ in range(1000):
        breaker.search(QUERY, TOKEN, 5)
    assert breaker.failures == 1000 and len(store.timeouts) < 50  # the first one, and the probes
    breaker.close()


def test_drafts_resume_when_it_answers_again() -> None:
    store = Failing()
    breaker = CircuitBreaker(store)
    store.answers.clear()
    breaker.search(QUERY, TOKEN, 5)
    assert breaker.tripped
    store.answers.set()
    assert until(lambda: not breaker.tripped)
    assert np.isfinite(breaker.search(QUERY, TOKEN, 5).scores).any() and breaker.failures == 1


def test_closing_ends_the_probe() -> None:
    store = Failing()
    breaker = CircuitBreaker(store)
    store.answers.clear()
    breaker.search(QUERY, TOKEN, 5)
    breaker.close()
    searches = len(store.timeouts)
    time.sleep(0.1)
    assert not breaker.tripped and len(store.timeouts) == searches

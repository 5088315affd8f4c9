"""A store that fails costs drafts, never an exception and never a wait longer than the deadline."""

import threading
import time

import numpy as np

from dresd_milvus.errors import StoreError
from dresd_milvus.retrieval.circuit_breaker import Guarded
from dresd_milvus.retrieval.store import Hits
from tests.oracle import MemoryStore, example_manifest, example_rows

QUERY, TOKEN = example_rows(1, seed=1).vectors, np.array([1])


class Failing:
    """A remote store that answers while `answers` is set and counts what it is asked."""

    def __init__(self) -> None:
        self.memory = MemoryStore(example_manifest())
        self.memory.write(example_rows(100))
        self.manifest = self.memory.manifest
        self.answers = threading.Event()
        self.answers.set()
        self.asked: list[float] = []

    def search(self, queries: np.ndarray, next_tokens: np.ndarray | None, k: int, timeout: float) -> Hits:
        self.asked.append(timeout)
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


def test_what_is_answered_is_passed_on() -> None:
    store = Failing()
    guard = Guarded(store, timeout=0.1)
    hits, expected = guard.search(QUERY, TOKEN, 5), store.memory.search(QUERY, TOKEN, 5)
    np.testing.assert_array_equal(hits.continuations, expected.continuations)
    assert (guard.searches, guard.lost, guard.losses(), store.asked) == (1, 0, "", [0.1])


def test_a_failure_finds_nothing_and_is_counted_with_its_reason() -> None:
    store = Failing()
    guard = Guarded(store, timeout=0.1)
    store.answers.clear()
    for _ in range(3):
        hits = guard.search(QUERY, TOKEN, 5)
        assert hits.scores.shape == (1, 5) and np.isneginf(hits.scores).all() and (hits.continuations == -1).all()
    assert guard.tripped and guard.losses() == "3 of 3 searches got no answer within 0.1 s: it is gone"
    guard.close()


def test_while_it_is_gone_a_step_does_not_ask_it() -> None:
    store = Failing()
    guard = Guarded(store)
    store.answers.clear()
    for _ in range(1000):
        guard.search(QUERY, TOKEN, 5)
    assert guard.lost == 1000 and len(store.asked) < 50  # the first one, and the probes
    guard.close()


def test_drafts_resume_when_it_answers_again() -> None:
    store = Failing()
    guard = Guarded(store)
    store.answers.clear()
    guard.search(QUERY, TOKEN, 5)
    assert guard.tripped
    store.answers.set()
    assert until(lambda: not guard.tripped)
    assert np.isfinite(guard.search(QUERY, TOKEN, 5).scores).any() and guard.lost == 1


def test_closing_ends_the_probe() -> None:
    store = Failing()
    guard = Guarded(store)
    store.answers.clear()
    guard.search(QUERY, TOKEN, 5)
    guard.close()
    asked = len(store.asked)
    time.sleep(0.1)
    assert not guard.tripped and len(store.asked) == asked

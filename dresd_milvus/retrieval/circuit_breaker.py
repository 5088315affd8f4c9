"""A circuit breaker around a store on a server, so that a decoding step never waits for a database that has failed.

Every search has a deadline. The first one that fails trips the breaker: later searches return no hits at once, while a
thread in the background repeats the failed search until it is answered in time. The text stays the same; only drafts
are missing, and the breaker counts the searches that failed.
"""

from __future__ import annotations

from collections import deque
from threading import Event, Thread
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.defaults import SEARCH_SECONDS
from dresd_milvus.errors import StoreError
from dresd_milvus.retrieval.store import Hits, Manifest

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds between two probes: the pause doubles from the first to the longest."""


KEPT = 1000
"""Times of answers that are kept."""


class RemoteStore(Protocol):
    """A ContinuationStore that is searched over a network."""

    @property
    def manifest(self) -> Manifest:
        """See ContinuationStore."""
        ...

    def search(
        self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int, timeout: float
    ) -> Hits:
        """See ContinuationStore; raises StoreError when there is no complete answer within `timeout` seconds."""
        ...

    def of_origin(self, origin: str) -> RemoteStore:
        """See ContinuationStore."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class CircuitBreaker:
    """A ContinuationStore over a RemoteStore. A search that fails returns no hits instead of raising an error.

    timeout: deadline of a search, in seconds.
    searches: number of searches so far. failures: number of those that were not answered in time; searches while the
    breaker was tripped, which are not sent, count as failures. reason: message of the last error, '' if there was none.
    answered: seconds that the latest answers took; who reads them may take them out.
    """

    def __init__(self, store: RemoteStore, timeout: float = SEARCH_SECONDS) -> None:
        self.store, self.timeout = store, timeout
        self.searches = self.failures = 0
        self.reason = ""
        self.answered: deque[float] = deque(maxlen=KEPT)
        self._probe: Thread | None = None
        self._closed = Event()

    @property
    def manifest(self) -> Manifest:
        """The manifest of the store."""
        return self.store.manifest

    @property
    def tripped(self) -> bool:
        """Whether searches are not sent, because the store has failed and no probe has been answered since."""
        return self._probe is not None and self._probe.is_alive()

    def search(self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int) -> Hits:
        """See ContinuationStore; no hits when the breaker is tripped or the search fails."""
        self.searches += 1
        if not self.tripped:
            try:
                begun = perf_counter()
                hits = self.store.search(queries, next_tokens, k, self.timeout)
                self.answered.append(perf_counter() - begun)
                return hits
            except StoreError as error:
                self.reason = str(error)
                self._probe = Thread(target=self._probe_until_answered, args=(queries, next_tokens, k), daemon=True)
                self._probe.start()
        self.failures += 1
        return Hits.none(len(queries), k, self.manifest.continuation)

    def of_origin(self, origin: str) -> CircuitBreaker:
        """See ContinuationStore; with counters of its own."""
        return CircuitBreaker(self.store.of_origin(origin), self.timeout)

    def _probe_until_answered(
        self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int
    ) -> None:
        """Repeat a search until it is answered within the deadline: a server that is back but slow stays cut off."""
        from tenacity import Retrying, retry_if_exception_type, sleep_using_event, wait_exponential

        def probe() -> None:
            if not self._closed.is_set():
                self.store.search(queries, next_tokens, k, self.timeout)

        Retrying(
            retry=retry_if_exception_type(StoreError),
            wait=wait_exponential(FIRST_PAUSE, max=LONGEST_PAUSE),
            sleep=sleep_using_event(self._closed),
        )(probe)

    def failure_summary(self) -> str:
        """One line about the searches that failed; '' if none did."""
        if not self.failures:
            return ""
        return f"{self.failures} of {self.searches} searches got no answer within {self.timeout:g} s: {self.reason}"

    def close(self) -> None:
        """End the probe and close the store."""
        self._closed.set()
        if self._probe is not None:
            self._probe.join()
        self.store.close()

"""A decoding step must not wait for a database: searches have a deadline, and one that is missed costs one draft.

The first failure trips a breaker: steps go on without drafts, at once, while a thread in the background repeats the
search that failed until it is answered in time. Output does not change, only speed; what was lost is counted.
"""

from __future__ import annotations

from threading import Event, Thread
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import StoreError
from dresd_milvus.retrieval.store import Hits, Manifest

SEARCH_SECONDS = 0.25
"""Seconds that a decoding step waits for a server, where nothing else is asked for."""

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds between two probes: doubled from the first to the longest."""


class RemoteStore(Protocol):
    """A ContinuationStore that is searched over a network."""

    @property
    def manifest(self) -> Manifest: ...

    def search(
        self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int, timeout: float
    ) -> Hits:
        """As ContinuationStore.search; raises StoreError when there is no whole answer within `timeout` seconds."""
        ...

    def close(self) -> None: ...


class Guarded:
    """Implements ContinuationStore over a RemoteStore and never raises: what is not answered is not found.

    timeout: seconds for a search. searches: how many were asked for; lost: how many of them got no answer in time,
    those that were not sent included; reason: what was wrong when it failed last, '' if it never did.
    """

    def __init__(self, store: RemoteStore, timeout: float = SEARCH_SECONDS) -> None:
        self.store, self.timeout = store, timeout
        self.searches = self.lost = 0
        self.reason = ""
        self._probe: Thread | None = None
        self._closed = Event()

    @property
    def manifest(self) -> Manifest:
        """The manifest of the store."""
        return self.store.manifest

    @property
    def tripped(self) -> bool:
        """Whether searches are not sent, because the store has failed and has not answered a probe since."""
        return self._probe is not None and self._probe.is_alive()

    def search(self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int) -> Hits:
        self.searches += 1
        if not self.tripped:
            try:
                return self.store.search(queries, next_tokens, k, self.timeout)
            except StoreError as error:
                self.reason = str(error)
                self._probe = Thread(target=self._until_answered, args=(queries, next_tokens, k), daemon=True)
                self._probe.start()
        self.lost += 1
        return Hits.none(len(queries), k, self.manifest.continuation)

    def _until_answered(self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int) -> None:
        """Return when a search is answered in time again: a store that is back but slow stays out of the way."""
        pause = FIRST_PAUSE
        while not self._closed.wait(pause):
            try:
                self.store.search(queries, next_tokens, k, self.timeout)
                return
            except StoreError:
                pass
            pause = min(2 * pause, LONGEST_PAUSE)

    def losses(self) -> str:
        """What was lost, as a line for people; '' if nothing was."""
        if not self.lost:
            return ""
        return f"{self.lost} of {self.searches} searches got no answer within {self.timeout:g} s: {self.reason}"

    def close(self) -> None:
        """End the probe and close the store."""
        self._closed.set()
        if self._probe is not None:
            self._probe.join()
        self.store.close()

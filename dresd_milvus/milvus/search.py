"""Searching a collection in a decoding step: one attempt with a deadline, through pymilvus's MilvusClient."""

from __future__ import annotations

import json
import weakref
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus.client.connection import connect, disconnect
from dresd_milvus.milvus.client.errors import translated_errors
from dresd_milvus.milvus.indexes import Chosen, Version
from dresd_milvus.retrieval.store import Hits, Manifest

ANSWER_SECONDS = 30.0
"""Default deadline of a search outside decoding."""

CONNECT_SECONDS = 2.0
"""Deadline of a new connection for searching."""

OVERSAMPLE = 4
"""With the plan 'oversample' the server returns this number times k neighbours."""


class Searcher:
    """Searches one collection by one plan, over a connection of its own. Several threads may use it at once.

    plan: 'filter' and 'partition' have the server search the rows of one first token only (with 'partition' the first
    token is the partition key, so that the server reads one partition); 'oversample' has it search all rows for more
    neighbours, of which those with the right first token are kept. origin: whose rows are searched; None for all.
    The connection closes with `close`, or when nobody refers to the searcher any more.
    Raises StoreError when there is no connection within CONNECT_SECONDS.
    """

    def __init__(
        self,
        uri: str,
        token: str,
        collection: str,
        manifest: Manifest,
        chosen: Chosen,
        version: Version,
        plan: str,
        origin: str | None = None,
    ) -> None:
        self.uri, self.collection, self.manifest = uri, collection, manifest
        self.chosen, self.version, self.plan = chosen, version, plan
        self._only = [] if origin is None else [f"origin == {json.dumps(origin, ensure_ascii=False)}"]
        self._client = connect(uri, token, timeout=CONNECT_SECONDS)
        self.close = weakref.finalize(self, disconnect, self._client, uri)
        self.close.atexit = False

    def __call__(
        self,
        queries: NDArray[np.float32],
        next_tokens: NDArray[np.int64] | None,
        k: int,
        timeout: float = ANSWER_SECONDS,
    ) -> Hits:
        """See ContinuationStore.search; raises StoreError when there is no complete answer within `timeout` seconds."""
        hits = Hits.none(len(queries), k, self.manifest.continuation)
        tokens: list[int] | list[None] = [None] * len(queries) if next_tokens is None else next_tokens.tolist()
        with translated_errors(self.uri):
            # All are sent before the first answer is waited for.
            sent = [self._send(query, token, k, timeout) for query, token in zip(queries, tokens, strict=True)]
            for row, (answer, token) in enumerate(zip(sent, tokens, strict=True)):
                found = self._parse(answer.result())
                if token is not None:
                    found = found.take(np.flatnonzero(found.continuations[:, 0] == token)[:k])
                into = hits.take((row, slice(len(found.scores))))  # views
                into.scores[:], into.pks[:], into.continuations[:] = found
        return hits

    def _send(self, query: NDArray[np.float32], token: int | None, k: int, timeout: float) -> Any:
        """Send the search of one query [d]; returns pymilvus's future of the answer."""
        filtered = token is not None and self.plan != "oversample"
        limit = k if token is None or filtered else min(k * OVERSAMPLE, self.chosen.index.max_k)
        return self._client.search(
            self.collection,
            data=[query.astype(self.manifest.vectors, copy=False)],
            anns_field="vector",
            filter=" and ".join([*([f"next_token == {token}"] if filtered else []), *self._only]),
            limit=limit,
            output_fields=["next_tokens"],
            search_params={"metric_type": "IP", "params": self.chosen.search_params(limit, self.version)},
            consistency_level="Eventually",  # the rows of a sealed collection do not change; Strong costs 200 ms
            timeout=timeout,
            # One attempt. Without a future, pymilvus reconnects and repeats a search that failed, beyond the timeout.
            _async=True,
        )

    def _parse(self, answer: Any) -> Hits:
        """The n hits of an answer to one query (no axis of queries); StoreError for one that lacks something."""
        found = next(iter(answer), ())
        scores = np.array([hit["distance"] for hit in found], np.float32)
        pks = np.array([hit.id for hit in found], np.int64)
        rows = (hit["entity"].get("next_tokens", ()) for hit in found)
        tokens = np.fromiter(chain.from_iterable(rows), np.int32)
        if tokens.size != len(scores) * self.manifest.continuation:
            raise StoreError("the server's answer is not complete: a continuation has another number of tokens")
        return Hits(scores, pks, tokens.reshape(len(scores), self.manifest.continuation))

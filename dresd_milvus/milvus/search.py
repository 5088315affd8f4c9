"""The hot path: one search per decoding step, over a connection of its own and a request prepared once."""

from __future__ import annotations

import base64
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus.client.connection import certificate, is_embedded
from dresd_milvus.milvus.client.explain import explained
from dresd_milvus.milvus.indexes import Chosen, Version
from dresd_milvus.retrieval.store import Hits, Manifest

ANSWER_SECONDS = 30.0

OVERSAMPLE = 4
"""With the plan 'oversample' this many times k neighbours are fetched; those with the right first token stay."""

CHANNEL = {
    "grpc.max_receive_message_length": -1,
    "grpc.enable_retries": 0,  # a late answer is worth nothing to a decoding step
    "grpc.use_local_subchannel_pool": 1,
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.keepalive_permit_without_calls": 1,
}

CONNECT_SECONDS = 2.0


class Searcher:
    """Searches one collection. Safe to use from several threads. Raises StoreError when it cannot be connected.

    plan: 'filter' and 'partition' let the server keep to the rows of one first token (with 'partition' the token is
    also the partition key, so that only one partition is searched); 'oversample' searches all rows for more
    neighbours and keeps those with the right first token.
    """

    def __init__(
        self, uri: str, token: str, collection: str, manifest: Manifest, chosen: Chosen, version: Version, plan: str
    ) -> None:
        from dresd_milvus.milvus.client.libraries import grpc

        self.uri, self.collection, self.continuation = uri, collection, manifest.continuation
        self.chosen, self.version, self.plan = chosen, version, plan
        self._empty = np.zeros(manifest.dim, manifest.vectors)
        self._metadata = [("authorization", base64.b64encode(token.encode()).decode())] if token else []
        self._channel, self._stub = connection(uri)
        try:  # a search is timed, and must not pay for the connection
            grpc.channel_ready_future(self._channel).result(CONNECT_SECONDS)
        except grpc.FutureTimeoutError as error:
            self._channel.close()
            raise StoreError(f"there is no connection to the Milvus at {uri} within {CONNECT_SECONDS:g} s") from error
        self._prepared: dict[int, Any] = {}

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __call__(
        self,
        queries: NDArray[np.float32],
        next_tokens: NDArray[np.int64] | None,
        k: int,
        timeout: float = ANSWER_SECONDS,
    ) -> Hits:
        """As ContinuationStore.search. Raises StoreError when there is no whole answer within `timeout` seconds."""
        wanted: list[int] | list[None] = [None] * len(queries) if next_tokens is None else next_tokens.tolist()
        with explained(self.uri):
            requests = [self.request(query, token, k) for query, token in zip(queries, wanted, strict=True)]
            # All are sent before the first is waited for; one alone is called directly, which is a little quicker.
            if len(requests) == 1:
                answers = [self._stub.Search(requests[0], timeout=timeout, metadata=self._metadata)]
            else:
                sent = [self._stub.Search.future(r, timeout=timeout, metadata=self._metadata) for r in requests]
                answers = [each.result() for each in sent]
            return self._hits(answers, wanted, k)

    def request(self, query: NDArray[np.float32], token: int | None, k: int) -> Any:
        """The request for one query [d]: the one prepared for this k, with this key and first token."""
        filtered = token is not None and self.plan != "oversample"
        limit = k if token is None or filtered else min(k * OVERSAMPLE, self.chosen.index.max_k)
        prepared = self._prepared.get(limit)
        if prepared is None:
            prepared = self._prepared[limit] = self._prepare(limit)
        request = type(prepared)()
        request.CopyFrom(prepared)
        if filtered:
            request.dsl = f"next_token == {token}"
        # A placeholder group's message ends with the key's own bytes.
        key = query.astype(self._empty.dtype, copy=False).tobytes()
        request.placeholder_group = prepared.placeholder_group[: -len(key)] + key
        return request

    def _prepare(self, limit: int) -> Any:
        from dresd_milvus.milvus.client.libraries import Prepare

        return Prepare.search_requests_with_expr(
            self.collection,
            "vector",
            {"metric_type": "IP", "params": self.chosen.search_params(limit, self.version)},
            limit,
            data=[self._empty],
            expr="",
            output_fields=["next_tokens"],
            consistency_level="Eventually",  # the rows of a sealed collection do not change; Strong costs 200 ms
        )

    def _hits(self, answers: list[Any], wanted: list[int] | list[None], k: int) -> Hits:
        from dresd_milvus.milvus.client.libraries import MilvusException

        scores, continuations = hits = Hits.none(len(answers), k, self.continuation)
        for index, (answer, token) in enumerate(zip(answers, wanted, strict=True)):
            if answer.status.code or answer.status.error_code:
                raise MilvusException(answer.status.code, answer.status.reason)
            found, rows = _parse(answer, self.continuation)
            if token is not None:
                keep = rows[:, 0] == token
                found, rows = found[keep][:k], rows[keep][:k]
            scores[index, : len(found)], continuations[index, : len(found)] = found, rows
        return hits


def _parse(answer: Any, continuation: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """(scores [n], continuations [n, N]) of a search with one query."""
    scores = np.array(answer.results.scores, np.float32)
    if not len(scores):
        return scores, np.empty((0, continuation), np.int32)
    fields = answer.results.fields_data
    payload = fields[0].scalars.array_data.data if fields else ()
    rows = np.fromiter(chain.from_iterable(row.int_data.data for row in payload), np.int32)
    if rows.size != len(scores) * continuation:
        raise StoreError("the server's answer is not whole: scores and continuations differ in number")
    return scores, rows.reshape(len(scores), continuation)


def connection(uri: str) -> tuple[Any, Any]:
    """(channel, stub) to a server, or to the embedded database that is open in this process."""
    from dresd_milvus.milvus.client.libraries import MilvusServiceStub, grpc, server_manager_instance

    if is_embedded(uri):
        uri = server_manager_instance.start_and_get_uri(uri)
    parsed = urlparse(uri)
    secure = parsed.scheme == "https"
    address = uri if parsed.scheme == "unix" else f"{parsed.hostname}:{parsed.port or (443 if secure else 19530)}"
    options = list(CHANNEL.items())
    if secure:
        authority = certificate().get("server_pem_path")
        credentials = grpc.ssl_channel_credentials(Path(authority).read_bytes() if authority else None)
        channel = grpc.secure_channel(address, credentials, options=options)
    else:
        channel = grpc.insecure_channel(address, options=options)
    return channel, MilvusServiceStub(channel)

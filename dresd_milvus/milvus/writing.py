"""Writing rows: requests are built column by column while earlier ones are unanswered, and repeated after a failure."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

from dresd_milvus.milvus.client.connection import open_stub
from dresd_milvus.milvus.client.errors import translated_errors
from dresd_milvus.milvus.client.retry import with_retries
from dresd_milvus.milvus.client.server import Server
from dresd_milvus.milvus.schema import PREVIEW_BYTES
from dresd_milvus.retrieval.store import ORIGIN_CHARACTERS, Manifest, Rows

REQUEST_BYTES = 8 << 20
"""Approximate size of one request. A server takes 64 MB; smaller requests can be spread over its shards."""

ANSWER_SECONDS = 60.0
"""Deadline of one request."""

CLOSE_SECONDS = 2.0
"""Longest time for closing a connection."""


class Writer:
    """Sends rows to one collection. Call `flush` after the last rows.

    partition: from the origin of rows to the name of their partition, '' where the server chooses it.
    notify: gets one message for the user when a server is away or busy.
    A request that failed may have been carried out, so it is sent again as an upsert, which gives the same rows.
    """

    def __init__(
        self,
        uri: str,
        token: str,
        collection: str,
        manifest: Manifest,
        server: Server,
        partition: Callable[[str], str],
        notify: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.uri, self.collection, self.manifest, self.notify = uri, collection, manifest, notify
        self._server, self._partition = server, partition
        self._metadata = [("authorization", base64.b64encode(token.encode()).decode())] if token else []
        self._channel, self._stub = open_stub(uri)
        self._sent: deque[tuple[Any, Any]] = deque()

    def calls(self) -> tuple[Any, Any]:
        """(stub, metadata): for other requests over the same connection."""
        return self._stub, self._metadata

    def close(self) -> None:
        """Close the connection; rows that were not flushed may be lost.

        gRPC waits for the end of all calls, and never sees that of a call that Ctrl-C cut off while it was begun.
        """
        closing = Thread(target=self._channel.close, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def send(self, rows: Rows, replace: bool = False) -> None:
        """Send rows; waits while the maximum number of requests is unanswered.

        replace: whether some of the rows may be in the collection already. Raises StoreError for the first request
        that failed after all retries.
        """
        from dresd_milvus.milvus.client.libraries import milvus_pb2

        kind = milvus_pb2.UpsertRequest if replace else milvus_pb2.InsertRequest
        with translated_errors(self.uri):
            partition = self._partition(rows.origin[:ORIGIN_CHARACTERS])
            for part in _parts(rows, REQUEST_BYTES // self._row_bytes(rows)):
                request = kind(collection_name=self.collection, partition_name=partition, num_rows=len(part))
                request.fields_data.extend(_columns(part, self.manifest))
                while len(self._sent) >= self._server.writes_at_once:
                    self._settle()
                self._sent.append((request, self._start(request)))

    def flush(self) -> None:
        """Wait until the database has acknowledged every row; StoreError when it does not."""
        with translated_errors(self.uri):
            while self._sent:
                self._settle()

    def _row_bytes(self, rows: Rows) -> int:
        """Approximate bytes of one row in a request; -1, which pads continuations, takes ten bytes."""
        return 4 * rows.vectors.shape[1] + 5 * rows.next_tokens.shape[1] + 160

    def _start(self, request: Any) -> Any:
        call = self._stub.Upsert if type(request).__name__ == "UpsertRequest" else self._stub.Insert
        return call.future(request, timeout=ANSWER_SECONDS, metadata=self._metadata)

    def _settle(self) -> None:
        """Wait for the answer to the oldest request; send it again while a server is away or busy."""
        request, future = self._sent.popleft()
        futures = iter([future])

        def answer() -> None:
            _check((next(futures, None) or self._start(_as_upsert(request))).result())

        if self._server.embedded:
            answer()
        else:
            with_retries(answer, self.notify, self.uri)


def _check(answer: Any) -> None:
    """Raise MilvusException for an answer that reports an error."""
    from dresd_milvus.milvus.client.libraries import MilvusException

    if answer.status.code or answer.status.error_code:
        raise MilvusException(answer.status.code or answer.status.error_code, answer.status.reason)


def _as_upsert(request: Any) -> Any:
    from dresd_milvus.milvus.client.libraries import milvus_pb2

    return milvus_pb2.UpsertRequest(
        collection_name=request.collection_name,
        partition_name=request.partition_name,
        num_rows=request.num_rows,
        fields_data=request.fields_data,
    )


def _parts(rows: Rows, size: int) -> Iterator[Rows]:
    for start in range(0, len(rows), max(size, 1)):
        at = slice(start, start + size)
        previews = rows.previews[at] if rows.previews else None
        yield Rows(rows.pk[at], rows.vectors[at], rows.next_tokens[at], rows.origin, previews)


def _columns(rows: Rows, manifest: Manifest) -> Iterator[Any]:
    """The fields of rows as messages of Milvus's protocol."""
    from dresd_milvus.milvus.client.libraries import schema_pb2

    def scalars(name: str, kind: Any, **data: Any) -> Any:
        return schema_pb2.FieldData(field_name=name, type=kind, scalars=schema_pb2.ScalarField(**data))

    yield scalars("pk", schema_pb2.Int64, long_data=schema_pb2.LongArray(data=rows.pk.tolist()))
    keys = rows.vectors.astype(manifest.vectors, copy=False)
    vectors = schema_pb2.VectorField(dim=keys.shape[1])
    if manifest.vectors == "float16":
        vectors.float16_vector = keys.tobytes()
        yield schema_pb2.FieldData(field_name="vector", type=schema_pb2.Float16Vector, vectors=vectors)
    else:
        vectors.float_vector.data.extend(keys.ravel().tolist())  # four times as fast as numpy floats
        yield schema_pb2.FieldData(field_name="vector", type=schema_pb2.FloatVector, vectors=vectors)
    yield scalars("next_token", schema_pb2.Int64, long_data=schema_pb2.LongArray(data=rows.next_tokens[:, 0].tolist()))
    array = schema_pb2.ArrayArray(element_type=schema_pb2.Int32)
    for tokens in rows.next_tokens.tolist():
        array.data.add().int_data.data.extend(tokens)
    yield scalars("next_tokens", schema_pb2.Array, array_data=array)
    previews = rows.previews or [""] * len(rows)
    cut = [preview.encode()[:PREVIEW_BYTES].decode(errors="ignore") for preview in previews]
    for name, texts in (("origin", [rows.origin[:ORIGIN_CHARACTERS]] * len(rows)), ("preview", cut)):
        yield scalars(name, schema_pb2.VarChar, string_data=schema_pb2.StringArray(data=texts))

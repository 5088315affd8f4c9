"""A collection of continuations in Milvus: creation, writing, sealing, search."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace as replaced
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import InputError, LostRowsError, StoreError
from dresd_milvus.milvus import collections
from dresd_milvus.milvus.client.connection import connection, disconnect, exists, remove_half_made
from dresd_milvus.milvus.client.errors import translated_errors
from dresd_milvus.milvus.client.server import Server
from dresd_milvus.milvus.indexes import Chosen, Plan
from dresd_milvus.milvus.projections import load_projection, make_ready, save_projection
from dresd_milvus.milvus.schema import continuation_schema, key_index, partition_of, properties_of
from dresd_milvus.milvus.search import ANSWER_SECONDS, Searcher
from dresd_milvus.milvus.writing import Writer
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.store import Hits, Manifest, Rows

SEAL_SECONDS = 24 * 3600.0
"""Deadline of sealing. A large index takes hours to build; one that stalls fails long before (wait_for_index)."""


class MilvusStore(AbstractContextManager["MilvusStore"]):
    """A WritableStore in Milvus. Make one with `create` or `open`; close it, or use it as a context manager.

    collection: name of the collection. name: the collection or alias that it was opened by. A reader of an alias keeps
    the collection that it began with until that is dropped. chosen: the index of the keys with its parameters.
    """

    def __init__(
        self,
        client: Any,
        uri: str,
        collection: str,
        manifest: Manifest,
        server: Server,
        token: str = "",
        name: str = "",
    ) -> None:
        self.client, self.uri, self.collection, self.manifest = client, uri, collection, manifest
        self.server, self._token, self.name = server, token, name or collection
        self.chosen = Chosen.parse(manifest.index, manifest.dim)
        self._searcher: Searcher | None = None
        self._writer: Writer | None = None
        self._plan: str | None = None
        self._origin: str | None = None
        self._partitions: set[str] = set()

    @classmethod
    def create(
        cls, uri: str, collection: str, manifest: Manifest, projection: Projection, token: str = "", rows: int = 0
    ) -> MilvusStore:
        """Create an empty collection, and write its projection unless the database has it.

        manifest.index: see Server.choose. rows: expected number of rows, for the index 'auto'.
        Raises StoreError if the name is taken or the server lacks the index, InputError for a wrong parameter.
        """
        with connection(uri, token, create=True, keep=True) as client:
            server = Server.of(client, uri)
            chosen = server.choose(manifest.index, rows, manifest.dim, manifest.vectors == "float16")
            manifest = replaced(manifest, index=str(chosen))
            if exists(client, uri, collection):
                raise StoreError(f"the collection '{collection}' is already in {uri}; choose another --collection")
            save_projection(client, uri, projection)  # first: no collection is ever without its projection
            remove_half_made(uri, collection)
            client.create_collection(
                collection,
                schema=continuation_schema(client, manifest),
                properties=properties_of(manifest),
                **({"num_partitions": manifest.partitions} if manifest.partition_by == "token" else {}),
            )
            # It is loaded when it is sealed: rows that come into a loaded collection go into an interim index, which
            # finds less, and stay there for a while after the real index is built.
            client.create_index(collection, key_index(client, chosen), sync=False)  # sealing waits for it
        return cls(client, uri, collection, manifest, server, token)

    @classmethod
    def open(cls, uri: str, collection: str, token: str = "") -> MilvusStore:
        """Open a collection or alias, sealed or not; StoreError when it is missing or another program made it."""
        with connection(uri, token, keep=True) as client:
            server = Server.of(client, uri)
            if not exists(client, uri, collection):
                names = ", ".join(sorted(collections.store_names(client, uri))) or "none"
                raise StoreError(f"there is no collection '{collection}' in {uri} (there: {names})")
            own_name, manifest = collections.resolve(client, uri, collection)
            return cls(client, uri, own_name, manifest, server, token, collection)

    def require_sealed(self) -> MilvusStore:
        """The store itself; StoreError when its ingestion has not ended."""
        if not self.manifest.seal:
            raise StoreError(
                f"the collection '{self.collection}' in {self.uri} is not sealed: its ingestion was interrupted; "
                "run the same ingestion command again"
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; another process may then open an embedded database."""
        for part in (self._searcher, self._writer):
            if part:
                part.close()
        disconnect(self.client, self.uri)

    def projection(self) -> Projection:
        """Read the projection of the keys from the database; StoreError when it is not there."""
        with translated_errors(self.uri):
            projection = load_projection(self.client, self.manifest.projection, self.manifest.layer)
        self.manifest.require(projection=projection.fingerprint)
        return projection

    def write(self, rows: Rows, replace: bool = False) -> None:
        """See WritableStore; returns when the database has acknowledged the rows."""
        writer = self.writer()
        writer.send(rows, replace)
        writer.flush()

    def writer(self, notify: Callable[[str], None] = lambda message: None) -> Writer:
        """The writer of this store, which sends rows without waiting for each answer. notify: see Writer."""
        if self._writer is None:
            self._writer = Writer(self.uri, self._token, self.collection, self.manifest, self.server, self._partition)
        self._writer.notify = notify
        return self._writer

    def _partition(self, origin: str) -> str:
        """The partition of a source's rows, created if it is missing; '' where the server chooses it."""
        if self.manifest.partition_by != "source":
            return ""
        name = partition_of(origin)
        if name not in self._partitions:
            if not self.client.has_partition(self.collection, name):
                self.client.create_partition(self.collection, name)
            self._partitions.add(name)
        return name

    def seal(
        self,
        manifest: Manifest,
        deadline: float = SEAL_SECONDS,
        progress: Callable[[int], None] = lambda rows: None,
        rows: int | None = None,
    ) -> Manifest:
        """See WritableStore.

        progress: gets the number of rows that were indexed since the last call. rows: number of rows that were sent;
        LostRowsError when the store holds another number.
        """
        end = time.monotonic() + deadline
        with translated_errors(self.uri):
            self.client.flush(self.collection, timeout=deadline)
            if not collections.key_index_state(self.client, self.collection):  # creating it was interrupted
                self.client.create_index(self.collection, key_index(self.client, self.chosen))
            collections.wait_for_index(self.client, self.uri, self.collection, end, progress)
            self.load(max(end - time.monotonic(), 1.0))
        counted = self.count()
        if rows is not None and counted != rows:
            raise LostRowsError(
                f"'{self.collection}' holds {counted} rows and {rows} were sent; run the same command again"
            )
        return self.save(
            replaced(
                manifest,
                index=self.manifest.index,
                rows=counted,
                seal=uuid.uuid4().hex[:16],
                sealed_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
        )

    def save(self, manifest: Manifest) -> Manifest:
        """Write a changed manifest and return it."""
        with translated_errors(self.uri):
            self.client.alter_collection_properties(self.collection, properties_of(manifest, self.manifest.ttl))
        self.manifest, self.chosen = manifest, Chosen.parse(manifest.index, manifest.dim)
        return manifest

    def load(self, timeout: float | None = None) -> None:
        """Load the collection, so that it can be searched; a loaded one stays as it is. timeout: seconds."""
        with translated_errors(self.uri):
            if self.server.embedded:
                collections.make_embedded_ready(self.client, self.collection, self.chosen)
            else:
                make_ready(self.client, self.collection, timeout)

    def drop(self) -> None:
        """Remove the collection. Its projection stays, because other collections may use it."""
        with translated_errors(self.uri):
            self.client.drop_collection(self.collection)

    def count(self) -> int:
        """The number of acknowledged rows, counted by the database."""
        self.load()
        with translated_errors(self.uri):
            found = self.client.query(self.collection, "", ["count(*)"], consistency_level="Strong")
            return int(found[0]["count(*)"])

    def index(self) -> dict[str, Any]:
        """The database's description of the index of the keys."""
        with translated_errors(self.uri):
            return collections.key_index_state(self.client, self.collection)

    def sample(self, rows: int) -> list[dict[str, Any]]:
        """Some rows for people to read: {pk, next_tokens, origin, preview} of each. rows: their number."""
        self.load()
        with translated_errors(self.uri):
            return collections.readable(self.client, self.collection, "pk >= 0", rows)

    def set_plan(self, plan: str | None) -> MilvusStore:
        """Search by this plan from now on; InputError when the collection does not allow it. Returns the store."""
        self._searcher, self._plan = self.searcher(plan), plan
        return self

    def of_origin(self, origin: str) -> MilvusStore:
        """See ContinuationStore; it shares the connection for all but searches."""
        part = copy(self)
        part._origin, part._searcher = origin, None
        return part

    def plans(self) -> tuple[Plan, ...]:
        """The search plans that this collection allows, the best one for its index first."""
        by_token = self.manifest.partition_by == "token"
        return tuple("partition" if plan == "filter" and by_token else plan for plan in self.chosen.index.plans)

    def searcher(self, plan: str | None = None) -> Searcher:
        """A new searcher by a plan, the best one by default; the caller closes it.

        Raises InputError when the collection does not allow the plan, StoreError when there is no connection.
        """
        plan = plan or self.plans()[0]
        if plan not in self.plans():
            raise InputError(
                f"the collection '{self.collection}' has the index {self.chosen.index.name} and is partitioned by "
                f"{self.manifest.partition_by}: it cannot be searched by '{plan}', only by {', '.join(self.plans())}"
            )
        return Searcher(
            self.uri, self._token, self.collection, self.manifest, self.chosen, self.server.version, plan, self._origin
        )

    def search(
        self,
        queries: NDArray[np.float32],
        next_tokens: NDArray[np.int64] | None,
        k: int,
        timeout: float = ANSWER_SECONDS,
    ) -> Hits:
        """See ContinuationStore; by the plan of `set_plan`, the best one by default.

        Raises StoreError when there is no complete answer within `timeout` seconds. A new connection, after an error,
        takes up to search.CONNECT_SECONDS more. Following an alias whose collection was dropped takes up to two more
        requests of `timeout` seconds.
        """
        try:
            return self._search(queries, next_tokens, k, timeout)
        except StoreError as error:
            # The next search makes a new connection: garbage may have broken this one for good, and gRPC waits ever
            # longer before it reconnects. Other threads may still wait for answers on the old one.
            self._searcher = None
            if getattr(error.__cause__, "code", None) != collections.NOT_FOUND or not self._follow_alias(timeout):
                raise
            return self._search(queries, next_tokens, k, timeout)

    def _search(
        self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int, timeout: float
    ) -> Hits:
        searcher = self._searcher  # another thread may set the attribute to None
        if searcher is None:
            if self.server.embedded:
                self.load()  # a collection is not loaded when its embedded database is opened
            searcher = self._searcher = self.searcher(self._plan if self._plan in self.plans() else None)
        return searcher(queries, next_tokens, k, timeout)

    def _follow_alias(self, timeout: float) -> bool:
        """Switch to the collection that the alias names now; False if there is no new one, or none that fits."""
        with translated_errors(self.uri):
            collection, manifest = collections.resolve(self.client, self.uri, self.name, timeout)
        fits = all(getattr(manifest, name) == getattr(self.manifest, name) for name in ("projection", "continuation"))
        if collection == self.collection or not manifest.seal or not fits:
            return False
        self.collection, self.manifest, self.chosen = collection, manifest, Chosen.parse(manifest.index, manifest.dim)
        return True

    def scan(self, readable: bool = False) -> Iterator[Rows]:
        """See WritableStore. readable: include previews."""
        self.load()
        with translated_errors(self.uri):
            yield from collections.scan(self.client, self.collection, self.manifest, readable)

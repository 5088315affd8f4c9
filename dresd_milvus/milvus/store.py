"""A collection of continuations in Milvus: building it, sealing it, reading it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace as replaced
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dresd_milvus.errors import InputError, LostRowsError, StoreError
from dresd_milvus.milvus.client.connection import disconnect, opening
from dresd_milvus.milvus.client.explain import explained
from dresd_milvus.milvus.client.server import Server
from dresd_milvus.milvus.indexes import Chosen, Plan
from dresd_milvus.milvus.projections import load_projection, make_ready, save_projection
from dresd_milvus.milvus.reading import key_index_state, make_embedded_ready, resolve, scan, stores, wait_for_index
from dresd_milvus.milvus.schema import continuation_schema, key_index, partition_of, properties_of
from dresd_milvus.milvus.search import ANSWER_SECONDS, Searcher
from dresd_milvus.milvus.writing import Writer
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.store import Hits, Manifest, Rows

SEAL_SECONDS = 24 * 3600.0
"""Building a large index takes hours; one that does not move is given up long before."""

COLLECTION_NOT_FOUND = 100
"""Milvus's error code."""


class MilvusStore:
    """Implements WritableStore. Make one with `create` or `open`; close it, or use it as a context manager.

    collection: its own name, when it was opened by an alias too: a reader keeps the version it began with until that
    is dropped. name: what it was opened by.
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
        self._partitions: set[str] = set()

    @classmethod
    def create(
        cls, uri: str, collection: str, manifest: Manifest, projection: Projection, token: str = "", rows: int = 0
    ) -> MilvusStore:
        """A new, empty collection and, unless the database has it, its projection.

        manifest.index: an index with parameters, or 'auto' for one that suits the server and about `rows` rows.
        Raises StoreError if the name is taken or the server lacks the index, InputError for a wrong parameter.
        """
        with opening(uri, token, create=True) as client:
            server = Server.of(client, uri)
            chosen = server.choose(manifest.index, rows, manifest.dim, manifest.vectors == "float16")
            manifest = replaced(manifest, index=str(chosen))
            if client.has_collection(collection):
                raise StoreError(f"the collection '{collection}' is already in {uri}; choose another --collection")
            save_projection(client, projection)  # first, so that no collection is ever without its projection
            client.create_collection(
                collection,
                schema=continuation_schema(client, manifest),
                properties=properties_of(manifest),
                **({"num_partitions": manifest.partitions} if manifest.partition_by == "token" else {}),
            )
            # Not loaded before it is sealed: rows that are served while they come in go through an interim index,
            # which finds less, and stay in it for a while after the real one is built.
            client.create_index(collection, key_index(client, chosen), sync=False)  # of no rows: sealing waits for it
        return cls(client, uri, collection, manifest, server, token)

    @classmethod
    def open(cls, uri: str, collection: str, token: str = "") -> MilvusStore:
        """An existing collection or alias, sealed or not; StoreError when there is none or another program made it."""
        with opening(uri, token) as client:
            server = Server.of(client, uri)
            if not client.has_collection(collection):
                names = ", ".join(sorted(stores(client))) or "none"
                raise StoreError(f"there is no collection '{collection}' in {uri} (there: {names})")
            own_name, manifest = resolve(client, uri, collection)
            return cls(client, uri, own_name, manifest, server, token, collection)

    def require_sealed(self) -> MilvusStore:
        """Itself; StoreError when its ingestion has not ended."""
        if not self.manifest.seal:
            raise StoreError(
                f"the collection '{self.collection}' in {self.uri} is not sealed: its ingestion was interrupted; "
                "run the same ingestion command again"
            )
        return self

    def __enter__(self) -> MilvusStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the embedded database back, so that another process may open it."""
        for connection in (self._searcher, self._writer):
            if connection:
                connection.close()
        disconnect(self.client, self.uri)

    def projection(self) -> Projection:
        """The projection that the keys were made with, from the database."""
        with explained(self.uri):
            projection = load_projection(self.client, self.manifest.projection, self.manifest.layer)
        self.manifest.require(projection=projection.fingerprint)
        return projection

    def write(self, rows: Rows, replace: bool = False) -> None:
        writer = self.writer()
        writer.send(rows, replace)
        writer.flush()

    def writer(self, waiting: Callable[[str], None] = lambda why: None) -> Writer:
        """What sends rows; closed with the store. waiting: see Writer."""
        if self._writer is None:
            self._writer = Writer(self.uri, self._token, self.collection, self.manifest, self.server, self._partition)
        self._writer.waiting = waiting
        return self._writer

    def _partition(self, origin: str) -> str:
        """Where rows of a source go, made if need be; '' where the server decides."""
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
        """See WritableStore; progress(rows) is told of rows that have been indexed.

        rows: how many there must be; a store that holds another number is not sealed, LostRowsError instead.
        """
        end = time.monotonic() + deadline
        with explained(self.uri):
            self.client.flush(self.collection, timeout=deadline)
            if not key_index_state(self.client, self.collection):  # its creation was interrupted
                self.client.create_index(self.collection, key_index(self.client, self.chosen))
            wait_for_index(self.client, self.uri, self.collection, end, progress)
            self._make_ready(max(end - time.monotonic(), 1.0))
        counted = self.count()
        if rows is not None and counted != rows:
            raise LostRowsError(
                f"'{self.collection}' holds {counted} rows and {rows} were sent; drop it and build it anew"
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
        """Write a changed manifest."""
        with explained(self.uri):
            self.client.alter_collection_properties(self.collection, properties_of(manifest, self.manifest.ttl))
        self.manifest, self.chosen = manifest, Chosen.parse(manifest.index, manifest.dim)
        return manifest

    def load(self) -> None:
        """Have the database ready to answer; it costs nothing where it is already."""
        with explained(self.uri):
            self._make_ready()

    def _make_ready(self, timeout: float | None = None) -> None:
        if self.server.embedded:
            make_embedded_ready(self.client, self.collection, self.chosen)
        else:
            make_ready(self.client, self.collection, timeout)

    def drop(self) -> None:
        """Remove the collection; its projection stays, others may use it."""
        with explained(self.uri):
            self.client.drop_collection(self.collection)

    def count(self) -> int:
        """The number of rows, counted by the database; every acknowledged write is seen."""
        self.load()
        with explained(self.uri):
            found = self.client.query(
                self.collection, filter="", output_fields=["count(*)"], consistency_level="Strong"
            )
            return int(found[0]["count(*)"])

    def index(self) -> dict[str, Any]:
        """The index of the keys, as the database describes it."""
        with explained(self.uri):
            return key_index_state(self.client, self.collection)

    def sample(self, rows: int) -> list[dict[str, Any]]:
        """A few rows as a person would want to read them."""
        self.load()
        with explained(self.uri):
            fields = ["pk", "next_tokens", "origin", "preview"]
            return [
                dict(r) for r in self.client.query(self.collection, filter="pk >= 0", output_fields=fields, limit=rows)
            ]

    def use(self, plan: str | None) -> MilvusStore:
        """Itself, to be searched by a plan; raises InputError when the collection does not allow it."""
        self._searcher, self._plan = self.searcher(plan), plan
        return self

    def plans(self) -> tuple[Plan, ...]:
        """The search plans that this collection allows, the one that suits its index best first."""
        by_token = self.manifest.partition_by == "token"
        return tuple("partition" if plan == "filter" and by_token else plan for plan in self.chosen.index.plans)

    def searcher(self, plan: str | None = None) -> Searcher:
        """A way of searching, to be closed by who asked; InputError when the collection does not allow the plan."""
        plan = plan or self.plans()[0]
        if plan not in self.plans():
            raise InputError(
                f"the collection '{self.collection}' has the index {self.chosen.index.name} and is partitioned by "
                f"{self.manifest.partition_by}: it cannot be searched by '{plan}', only by {', '.join(self.plans())}"
            )
        return Searcher(self.uri, self._token, self.collection, self.manifest, self.chosen, self.server.version, plan)

    def search(
        self,
        queries: NDArray[np.float32],
        next_tokens: NDArray[np.int64] | None,
        k: int,
        timeout: float = ANSWER_SECONDS,
    ) -> Hits:
        """By the plan in use, else the best; StoreError when it is not answered within `timeout` seconds.

        Where the connection has to be made anew, or the collection was dropped and the alias stands for another, that
        comes on top: search.CONNECT_SECONDS and `timeout` again at the most.
        """
        try:
            return self._search(queries, next_tokens, k, timeout)
        except StoreError as error:
            # A connection that has failed is not trusted again: garbage may have left it out of step for good, and
            # gRPC waits ever longer before it reconnects. It is not closed, other threads may wait for answers on it.
            self._searcher = None
            if getattr(error.__cause__, "code", None) != COLLECTION_NOT_FOUND or not self._follow(timeout):
                raise
            return self._search(queries, next_tokens, k, timeout)

    def _search(
        self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int, timeout: float
    ) -> Hits:
        searcher = self._searcher  # another thread may set it to None at any time
        if searcher is None:
            if self.server.embedded:
                self.load()  # an embedded database forgets what was loaded when it is closed
            searcher = self._searcher = self.searcher(self._plan if self._plan in self.plans() else None)
        return searcher(queries, next_tokens, k, timeout)

    def _follow(self, timeout: float) -> bool:
        """Go over to the version that the alias stands for by now; False where that would not serve the same drafts."""
        with explained(self.uri):
            collection, manifest = resolve(self.client, self.uri, self.name, timeout)
        same = all(getattr(manifest, name) == getattr(self.manifest, name) for name in ("projection", "continuation"))
        if collection == self.collection or not manifest.seal or not same:
            return False
        self.collection, self.manifest, self.chosen = collection, manifest, Chosen.parse(manifest.index, manifest.dim)
        self._searcher = None
        return True

    def scan(self, readable: bool = False) -> Iterator[Rows]:
        """See WritableStore; readable: with origins and previews, one origin per Rows."""
        self.load()
        with explained(self.uri):
            yield from scan(self.client, self.collection, self.manifest, readable)

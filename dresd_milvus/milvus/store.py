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

from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.milvus.connection import disconnect, opening
from dresd_milvus.milvus.explain import explained
from dresd_milvus.milvus.indexes import Chosen, Plan
from dresd_milvus.milvus.projections import PREFIX, load_projection, make_ready, save_projection
from dresd_milvus.milvus.schema import MANIFEST, PREVIEW_BYTES, continuation_schema, key_index, partition_of
from dresd_milvus.milvus.search import SEARCH_SECONDS, Searcher
from dresd_milvus.milvus.server import Server
from dresd_milvus.projection import Projection
from dresd_milvus.store import Hits, Manifest, Rows

INSERT_ROWS = 5_000
SCAN_ROWS = 10_000

INDEX_STALL_SECONDS = 60.0
"""An index whose rows have not grown for this long will not be built any more."""


class MilvusStore:
    """Implements WritableStore. Make one with `create` or `open`; close it, or use it as a context manager.

    collection: its own name, when it was opened by an alias too, so that a reader keeps the version it began with.
    """

    def __init__(
        self, client: Any, uri: str, collection: str, manifest: Manifest, server: Server, token: str = ""
    ) -> None:
        self.client, self.uri, self.collection, self.manifest = client, uri, collection, manifest
        self.server, self._token = server, token
        self.chosen = Chosen.parse(manifest.index, manifest.dim)
        self._searcher: Searcher | None = None
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
                index_params=key_index(client, chosen),
                properties={MANIFEST: manifest.to_json()},
                **({"num_partitions": manifest.partitions} if manifest.partition_by == "token" else {}),
            )
        return cls(client, uri, collection, manifest, server, token)

    @classmethod
    def open(cls, uri: str, collection: str, token: str = "") -> MilvusStore:
        """An existing collection or alias, sealed or not; StoreError when there is none or another program made it."""
        with opening(uri, token) as client:
            server = Server.of(client, uri)
            if not client.has_collection(collection):
                names = ", ".join(sorted(stores(client))) or "none"
                raise StoreError(f"there is no collection '{collection}' in {uri} (there: {names})")
            described = client.describe_collection(collection)
            properties = described.get("properties") or {}
            if MANIFEST not in properties:
                raise StoreError(
                    f"the collection '{collection}' in {uri} was not built by dresd-milvus: it has no manifest"
                )
            manifest = Manifest.from_json(properties[MANIFEST])
            return cls(client, uri, described["collection_name"], manifest, server, token)

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
        if self._searcher:
            self._searcher.close()
        disconnect(self.client, self.uri)

    def projection(self) -> Projection:
        """The projection that the keys were made with, from the database."""
        with explained(self.uri):
            projection = load_projection(self.client, self.manifest.projection, self.manifest.layer)
        self.manifest.require(projection=projection.fingerprint)
        return projection

    def write(self, rows: Rows, replace: bool = False) -> None:
        previews = rows.previews or [""] * len(rows)
        vectors = rows.vectors.astype(self.manifest.vectors, copy=False)
        columns = zip(rows.pk.tolist(), vectors, rows.next_tokens.tolist(), previews, strict=True)
        data = [
            {
                "pk": pk,
                "vector": vector,
                "next_token": tokens[0],
                "next_tokens": tokens,
                "origin": rows.origin[:64],
                "preview": preview.encode()[:PREVIEW_BYTES].decode(errors="ignore"),
            }
            for pk, vector, tokens, preview in columns
        ]
        put = self.client.upsert if replace else self.client.insert
        with explained(self.uri):
            where = self._partition(rows.origin[:64])
            for start in range(0, len(data), INSERT_ROWS):
                put(self.collection, data[start : start + INSERT_ROWS], **where)

    def _partition(self, origin: str) -> dict[str, str]:
        """Where rows of a source go, made if need be."""
        if self.manifest.partition_by != "source":
            return {}
        name = partition_of(origin)
        if name not in self._partitions:
            if not self.client.has_partition(self.collection, name):
                self.client.create_partition(self.collection, name)
            self._partitions.add(name)
        return {"partition_name": name}

    def seal(
        self, manifest: Manifest, deadline: float = 600.0, progress: Callable[[int], None] = lambda rows: None
    ) -> Manifest:
        """See WritableStore; progress(rows) is told of rows that have been indexed."""
        end = time.monotonic() + deadline
        with explained(self.uri):
            self.client.flush(self.collection, timeout=deadline)
            self.wait_for_index(end, progress)
            make_ready(self.client, self.collection, max(end - time.monotonic(), 1.0))
        return self.save(
            replaced(
                manifest,
                index=self.manifest.index,
                rows=self.count(),
                seal=uuid.uuid4().hex[:16],
                sealed_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
        )

    def save(self, manifest: Manifest) -> Manifest:
        """Write a changed manifest."""
        with explained(self.uri):
            self.client.alter_collection_properties(self.collection, {MANIFEST: manifest.to_json()})
        self.manifest, self.chosen = manifest, Chosen.parse(manifest.index, manifest.dim)
        return manifest

    def wait_for_index(self, end: float, progress: Callable[[int], None] = lambda rows: None) -> None:
        """Return when all flushed rows are indexed; raises StoreError at time.monotonic() `end`, or when it stalls.

        A server may accept an index that it cannot build: it says 'Finished' and never indexes a row.
        """
        done, moved = 0, time.monotonic()
        while True:
            state = self.index()
            if state.get("state") == "Failed":
                reason = state.get("index_state_fail_reason") or state.get("reason") or "it does not say why"
                raise StoreError(f"the Milvus at {self.uri} could not build the index {self.chosen}: {reason}")
            indexed, pending = int(state.get("indexed_rows", 0)), int(state.get("pending_index_rows", 0))
            if pending == 0:
                return
            if indexed > done:
                progress(indexed - done)
                done, moved = indexed, time.monotonic()
            if time.monotonic() > min(end, moved + INDEX_STALL_SECONDS):
                raise StoreError(
                    f"the Milvus at {self.uri} took the index {self.chosen} and has not built it ({indexed} rows done, "
                    f"{pending} to do); it may lack it: choose another with dresd store index --index HNSW"
                )
            time.sleep(0.2)

    def load(self) -> None:
        """Have the database ready to answer; it costs nothing where it is already."""
        with explained(self.uri):
            make_ready(self.client, self.collection)

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
            names = self.client.list_indexes(self.collection, field_name="vector")
            return dict(self.client.describe_index(self.collection, names[0])) if names else {}

    def sample(self, rows: int) -> list[dict[str, Any]]:
        """A few rows as a person would want to read them."""
        self.load()
        with explained(self.uri):
            fields = ["pk", "next_tokens", "origin", "preview"]
            return [
                dict(r) for r in self.client.query(self.collection, filter="pk >= 0", output_fields=fields, limit=rows)
            ]

    def plans(self) -> tuple[Plan, ...]:
        """The search plans that this collection allows, the one that suits its index best first."""
        by_token = self.manifest.partition_by == "token"
        return tuple("partition" if plan == "filter" and by_token else plan for plan in self.chosen.index.plans)

    def searcher(self, plan: Plan | None = None) -> Searcher:
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
        timeout: float = SEARCH_SECONDS,
    ) -> Hits:
        """By the best plan that the collection allows; StoreError when it is not answered within `timeout` seconds."""
        if self._searcher is None:
            self._searcher = self.searcher()
        return self._searcher(queries, next_tokens, k, timeout)

    def scan(self, readable: bool = False) -> Iterator[Rows]:
        """See WritableStore; readable: with origins and previews, one origin per Rows."""
        fields = ["pk", "vector", "next_tokens", *(["origin", "preview"] if readable else [])]
        self.load()
        with explained(self.uri):
            batches = self.client.query_iterator(
                self.collection,
                filter="pk >= 0",
                batch_size=SCAN_ROWS,
                output_fields=fields,
                consistency_level="Strong",
            )
            try:
                while batch := batches.next():
                    for origin in sorted({row.get("origin", "") for row in batch}):
                        yield self._rows([row for row in batch if row.get("origin", "") == origin], origin)
            finally:
                batches.close()

    def _rows(self, batch: list[dict[str, Any]], origin: str) -> Rows:
        vectors = [row["vector"] for row in batch]
        if self.manifest.vectors == "float16":
            vectors = [np.frombuffer(b"".join(v) if isinstance(v, list) else v, np.float16) for v in vectors]
        return Rows(
            np.array([row["pk"] for row in batch], np.int64),
            np.array(vectors, np.float32),
            np.array([row["next_tokens"] for row in batch], np.int32),
            origin,
            [row["preview"] for row in batch] if "preview" in batch[0] else None,
        )


def stores(client: Any) -> list[str]:
    """The names of a database's collections of continuations."""
    return [name for name in client.list_collections() if not name.startswith(PREFIX)]

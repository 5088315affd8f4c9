"""A collection of continuations in Milvus: building it, sealing it, reading it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace as replaced
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dresd_milvus.errors import StoreError
from dresd_milvus.milvus.connection import disconnect, explained, opening
from dresd_milvus.milvus.schema import (
    MANIFEST,
    PREVIEW_BYTES,
    continuation_schema,
    exact_index,
    projection_schema,
)
from dresd_milvus.projection import Projection
from dresd_milvus.store import PAD, Hits, Manifest, Rows

INSERT_ROWS = 5_000
SCAN_ROWS = 10_000


class MilvusStore:
    """Implements WritableStore. Make one with `create` or `open`; close it, or use it as a context manager."""

    def __init__(self, client: Any, uri: str, collection: str, manifest: Manifest) -> None:
        self.client, self.uri, self.collection, self.manifest = client, uri, collection, manifest

    @classmethod
    def create(
        cls, uri: str, collection: str, manifest: Manifest, projection: Projection, token: str = ""
    ) -> MilvusStore:
        """A new, empty collection and, unless the database has it, its projection; StoreError if the name is taken."""
        with opening(uri, token, create=True) as client:
            if client.has_collection(collection):
                raise StoreError(f"the collection '{collection}' is already in {uri}; choose another --collection")
            _save_projection(client, projection)  # first, so that no collection is ever without its projection
            client.create_collection(
                collection,
                schema=continuation_schema(client, manifest.dim, manifest.continuation),
                index_params=exact_index(client, "vector"),
                properties={MANIFEST: manifest.to_json()},
            )
        return cls(client, uri, collection, manifest)

    @classmethod
    def open(cls, uri: str, collection: str, token: str = "") -> MilvusStore:
        """An existing collection, sealed or not; StoreError when there is none or another program made it."""
        with opening(uri, token) as client:
            if not client.has_collection(collection):
                names = ", ".join(sorted(stores(client))) or "none"
                raise StoreError(f"there is no collection '{collection}' in {uri} (there: {names})")
            properties = client.describe_collection(collection).get("properties") or {}
            if MANIFEST not in properties:
                raise StoreError(
                    f"the collection '{collection}' in {uri} was not built by dresd-milvus: it has no manifest"
                )
            return cls(client, uri, collection, Manifest.from_json(properties[MANIFEST]))

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
        disconnect(self.client, self.uri)

    def projection(self) -> Projection:
        """The projection that the keys were made with, from the database."""
        name = f"dresd_projection_{self.manifest.projection}"
        with explained(self.uri):
            if not self.client.has_collection(name):
                raise StoreError(f"{self.uri} has lost the projection of '{self.collection}'; ingest again")
            self.client.load_collection(name)
            rows = self.client.query(name, filter="axis >= 0", output_fields=["*"], limit=16_384)
        rows.sort(key=lambda row: row["axis"])
        samples = int(self.client.describe_collection(name)["properties"]["dresd.samples"])
        projection = Projection(
            weight=torch.tensor(np.array([row["weight"] for row in rows], np.float32)),
            bias=torch.tensor([row["bias"] for row in rows], dtype=torch.float32),
            explained=torch.tensor([row["explained"] for row in rows], dtype=torch.float32),
            samples=samples,
            layer=self.manifest.layer,
        )
        self.manifest.require(projection=projection.fingerprint)
        return projection

    def write(self, rows: Rows, replace: bool = False) -> None:
        previews = rows.previews or [""] * len(rows)
        columns = zip(rows.pk.tolist(), rows.vectors, rows.next_tokens.tolist(), previews, strict=True)
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
            for start in range(0, len(data), INSERT_ROWS):
                put(self.collection, data[start : start + INSERT_ROWS])

    def seal(self, manifest: Manifest, deadline: float = 600.0) -> Manifest:
        end = time.monotonic() + deadline
        with explained(self.uri):
            self.client.flush(self.collection, timeout=deadline)
            self.client.load_collection(self.collection, timeout=max(end - time.monotonic(), 1.0))
        self.manifest = replaced(
            manifest,
            rows=self.count(),
            seal=uuid.uuid4().hex[:16],
            sealed_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        with explained(self.uri):
            self.client.alter_collection_properties(self.collection, {MANIFEST: self.manifest.to_json()})
        return self.manifest

    def load(self) -> None:
        """Have the database ready to answer; it costs nothing where it is already."""
        with explained(self.uri):
            self.client.load_collection(self.collection)

    def drop(self) -> None:
        """Remove the collection; its projection stays, others may use it."""
        with explained(self.uri):
            self.client.drop_collection(self.collection)

    def count(self) -> int:
        """The number of rows, counted by the database."""
        self.load()
        with explained(self.uri):
            return int(self.client.query(self.collection, filter="", output_fields=["count(*)"])[0]["count(*)"])

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

    def search(self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int) -> Hits:
        """One search per query, filtered by its first token in the database (the plan `filter`)."""
        size = self.manifest.continuation
        scores = np.full((len(queries), k), -np.inf, np.float32)
        continuations = np.full((len(queries), k, size), PAD, np.int32)
        with explained(self.uri):
            for index, query in enumerate(queries):
                found = self.client.search(
                    self.collection,
                    data=[query],
                    filter="" if next_tokens is None else f"next_token == {int(next_tokens[index])}",
                    limit=k,
                    output_fields=["next_tokens"],
                    consistency_level="Eventually",
                    timeout=30,
                )[0]
                for rank, hit in enumerate(found):
                    scores[index, rank] = hit["distance"]
                    continuations[index, rank] = hit["entity"]["next_tokens"]
        return Hits(scores, continuations)

    def scan(self) -> Iterator[Rows]:
        fields = ["pk", "vector", "next_tokens"]
        self.load()
        with explained(self.uri):
            batches = self.client.query_iterator(
                self.collection, filter="pk >= 0", batch_size=SCAN_ROWS, output_fields=fields
            )
            try:
                while batch := batches.next():
                    yield Rows(
                        np.array([row["pk"] for row in batch], np.int64),
                        np.array([row["vector"] for row in batch], np.float32),
                        np.array([row["next_tokens"] for row in batch], np.int32),
                    )
            finally:
                batches.close()


def stores(client: Any) -> list[str]:
    """The names of a database's collections of continuations."""
    return [name for name in client.list_collections() if not name.startswith("dresd_projection_")]


def _save_projection(client: Any, projection: Projection) -> None:
    """One row an axis, in a collection named by the fingerprint; written once."""
    name = f"dresd_projection_{projection.fingerprint}"
    if client.has_collection(name):
        client.drop_collection(name)  # whole or not: cheap to write again, and an interruption may have cut it short
    client.create_collection(
        name,
        schema=projection_schema(client, projection.hidden_size),
        index_params=exact_index(client, "weight"),
        properties={"dresd.samples": str(projection.samples)},
    )
    rows = zip(projection.weight.numpy(), projection.bias.tolist(), projection.explained.tolist(), strict=True)
    data = [
        {"axis": axis, "weight": weight, "bias": bias, "explained": explained_share}
        for axis, (weight, bias, explained_share) in enumerate(rows)
    ]
    client.insert(name, data)
    client.flush(name)

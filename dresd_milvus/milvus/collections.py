"""Collections as the database describes them: stores and their manifests, rows, state of the index."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dresd_milvus.errors import LostRowsError, StoreError
from dresd_milvus.milvus.indexes import Chosen
from dresd_milvus.milvus.projections import PREFIX, make_ready
from dresd_milvus.milvus.schema import MANIFEST, key_index
from dresd_milvus.retrieval.names import is_embedded
from dresd_milvus.retrieval.store import Manifest, Rows

SCAN_ROWS = 10_000

NOT_FOUND = 100
"""Milvus's error code of a collection that is not there."""

INDEX_STALL_SECONDS, SLOWEST_ROWS = 60.0, 2_000
"""Building an index has failed when no segment was finished for INDEX_STALL_SECONDS plus one second for every
SLOWEST_ROWS pending rows: a server reports rows by whole segments, which may hold millions."""


def scan(client: Any, collection: str, manifest: Manifest, readable: bool = False) -> Iterator[Rows]:
    """Iterate over all acknowledged rows of a loaded collection, in batches.

    The rows of a batch have one origin. readable: include previews.
    """
    fields = ["pk", "vector", "next_tokens", "origin", *(["preview"] if readable else [])]
    batches = client.query_iterator(
        collection, filter="pk >= 0", batch_size=SCAN_ROWS, output_fields=fields, consistency_level="Strong"
    )
    try:
        while batch := batches.next():
            for origin in sorted({row["origin"] for row in batch}):
                yield _rows([row for row in batch if row["origin"] == origin], origin, manifest)
    finally:
        batches.close()


def _rows(batch: list[dict[str, Any]], origin: str, manifest: Manifest) -> Rows:
    vectors = [row["vector"] for row in batch]
    if manifest.vectors == "float16":
        vectors = [np.frombuffer(b"".join(v) if isinstance(v, list) else v, np.float16) for v in vectors]
    return Rows(
        np.array([row["pk"] for row in batch], np.int64),
        np.array(vectors, np.float32),
        np.array([row["next_tokens"] for row in batch], np.int32),
        origin,
        [row["preview"] for row in batch] if "preview" in batch[0] else None,
    )


def readable(client: Any, collection: str, expression: str, most: int) -> list[dict[str, Any]]:
    """The first rows of a loaded collection that an expression selects, for people to read."""
    fields = ["pk", "next_tokens", "origin", "preview"]
    return [dict(row) for row in client.query(collection, filter=expression, output_fields=fields, limit=most)]


def key_index_state(client: Any, collection: str) -> dict[str, Any]:
    """The database's description of the index of the keys; empty if there is no index."""
    names = client.list_indexes(collection, field_name="vector")
    return dict(client.describe_index(collection, names[0])) if names else {}


def wait_for_index(
    client: Any, uri: str, collection: str, end: float, progress: Callable[[int], None] = lambda rows: None
) -> None:
    """Wait until all flushed rows are indexed; StoreError when that fails, stalls or takes longer than until `end`.

    end: on the clock of time.monotonic, in seconds. progress: gets the number of rows that were indexed since the last
    call. A server may accept an index that it cannot build: it then reports 'Finished' without indexing a row.
    """
    done, moved = 0, time.monotonic()
    while True:
        state = key_index_state(client, collection)
        kind = state.get("index_type", "?")
        if state.get("state") == "Failed":
            reason = state.get("index_state_fail_reason") or state.get("reason") or "it gives no reason"
            raise StoreError(f"the Milvus at {uri} could not build the index {kind}: {reason}")
        indexed, pending = int(state.get("indexed_rows", 0)), int(state.get("pending_index_rows", 0))
        if indexed > done:
            progress(indexed - done)
            done, moved = indexed, time.monotonic()
        if pending == 0:
            return
        if time.monotonic() > min(end, moved + INDEX_STALL_SECONDS + pending / SLOWEST_ROWS):
            raise StoreError(
                f"the Milvus at {uri} accepted the index {kind} and has not built it ({indexed} rows done, {pending} "
                f"pending); it may lack it: choose another with "
                f"dresd store index --uri {uri} --collection {collection} --index HNSW"
            )
        time.sleep(0.2)


def make_embedded_ready(client: Any, collection: str, chosen: Chosen) -> None:
    """Load a collection of an embedded database; build its index again when it cannot be read.

    Milvus Lite writes an index in place, so that a killed process may leave half of one.
    """
    from dresd_milvus.milvus.client.libraries import MilvusException

    try:
        make_ready(client, collection)
    except MilvusException:
        for name in client.list_indexes(collection, field_name="vector"):
            client.drop_index(collection, name)
        client.create_index(collection, key_index(client, chosen))
        make_ready(client, collection)


def store_names(client: Any, uri: str) -> list[str]:
    """Names of a database's collections, without those of projections.

    Milvus Lite lists nothing when one collection is damaged; then the folders of an embedded database tell.
    """
    from dresd_milvus.milvus.client.libraries import MilvusException

    try:
        names = client.list_collections()
    except MilvusException:
        if not is_embedded(uri):
            raise
        names = [folder.name for folder in (Path(uri) / "collections").iterdir() if folder.is_dir()]
    return [name for name in names if not name.startswith(PREFIX)]


def resolve(client: Any, uri: str, name: str, timeout: float | None = None) -> tuple[str, Manifest]:
    """(collection, manifest) of a collection or alias.

    Raises StoreError when another program made it, LostRowsError when files of an embedded database are damaged.
    """
    from dresd_milvus.milvus.client.libraries import MilvusException

    try:
        described = client.describe_collection(name, timeout=timeout)
    except MilvusException as error:
        if not is_embedded(uri) or error.code == NOT_FOUND:
            raise
        reason = str(error.message).splitlines()[0]
        raise LostRowsError(f"'{name}' in {uri} cannot be read ({reason}); run its ingestion again") from error
    properties = described.get("properties") or {}
    if MANIFEST not in properties:
        raise StoreError(f"the collection '{name}' in {uri} was not built by dresd-milvus: it has no manifest")
    return described["collection_name"], Manifest.from_json(properties[MANIFEST])

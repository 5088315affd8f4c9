"""The life of a store after it was built: listing, another index, publishing under an alias, expiry, removal."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.milvus.client.connection import disconnect, opening
from dresd_milvus.milvus.client.explain import explained
from dresd_milvus.milvus.indexes import Chosen
from dresd_milvus.milvus.projections import is_loaded, make_ready
from dresd_milvus.milvus.reading import key_index_state, stores, wait_for_index
from dresd_milvus.milvus.schema import MANIFEST, key_index, partition_of
from dresd_milvus.milvus.store import SEAL_SECONDS, MilvusStore
from dresd_milvus.retrieval.store import Manifest


def list_stores(uri: str, token: str = "") -> list[dict[str, Any]]:
    """{collection, aliases, rows, index, loaded, state, source, model} of every collection of a database."""
    with opening(uri, token) as client:
        found = [_summary(client, name) for name in sorted(stores(client))]
    disconnect(client, uri)
    return found


def _summary(client: Any, name: str) -> dict[str, Any]:
    properties = client.describe_collection(name).get("properties") or {}
    summary: dict[str, Any] = {
        "collection": name,
        "aliases": sorted(client.list_aliases(name)["aliases"]),
        "loaded": is_loaded(client, name),
    }
    if MANIFEST not in properties:
        return {**summary, "state": "of another program"}
    manifest = Manifest.from_json(properties[MANIFEST])
    return {
        **summary,
        "state": "sealed" if manifest.seal else "unfinished",
        "rows": manifest.rows,
        "index": manifest.index.partition(":")[0],
        "source": manifest.source,
        "model": manifest.model,
    }


def reindex(store: MilvusStore, index: str, progress: Callable[[int], None] = lambda rows: None) -> Manifest:
    """Give a store another index, or only other search parameters where the index itself stays as it is.

    While an index is built the store cannot be searched. Raises InputError or StoreError before anything is changed
    when the server lacks the index.
    """
    manifest = store.manifest
    chosen = store.server.choose(index, manifest.rows, manifest.dim, manifest.vectors == "float16")
    with explained(store.uri):
        if not _built(store, chosen):  # the server is asked: an attempt that failed has left the manifest as it was
            store.client.release_collection(store.collection)
            for name in store.client.list_indexes(store.collection, field_name="vector"):
                store.client.drop_index(store.collection, name)
            # Not waited for here, where pymilvus would wait without an end.
            store.client.create_index(store.collection, key_index(store.client, chosen), sync=False)
            wait_for_index(store.client, store.uri, store.collection, time.monotonic() + SEAL_SECONDS, progress)
        make_ready(store.client, store.collection)
    return store.save(replace(manifest, index=str(chosen)))


def _built(store: MilvusStore, chosen: Chosen) -> bool:
    """Whether the server has this index, built with these parameters and whole."""
    there = key_index_state(store.client, store.collection)
    same = {name: str(value) for name, value in chosen.build_params().items()}
    return (
        there.get("index_type") == chosen.index.name
        and all(str(there.get(name, value)) == value for name, value in same.items())
        and int(there.get("pending_index_rows", 0)) == 0
    )


def publish(store: MilvusStore, alias: str) -> str | None:
    """Have an alias stand for this store from now on; returns the collection that it stood for before, if any.

    Readers that began with the old version keep it until it is dropped, and then go over to this one.
    """
    store.require_sealed().load()
    client, uri = store.client, store.uri
    with explained(uri):
        if alias in client.list_collections():
            raise InputError(f"'{alias}' is the name of a collection in {uri}; choose another alias")
        old = _behind(client, alias)
        if old is None:
            client.create_alias(store.collection, alias)
        elif old != store.collection:
            client.alter_alias(store.collection, alias)
    return old if old != store.collection else None


def _behind(client: Any, alias: str) -> str | None:
    for name in client.list_collections():
        if alias in client.list_aliases(name)["aliases"]:
            return name
    return None


def drop(store: MilvusStore) -> None:
    """Remove a store; raises InputError while an alias stands for it, as readers may rely on that."""
    with explained(store.uri):
        aliases = store.client.list_aliases(store.collection)["aliases"]
    if aliases:
        raise InputError(
            f"'{store.collection}' is published as {', '.join(sorted(aliases))}; publish another collection "
            "under that name first, or give --force"
        )
    store.drop()


def drop_aliases(store: MilvusStore) -> None:
    """Take all its aliases from a store."""
    with explained(store.uri):
        for alias in store.client.list_aliases(store.collection)["aliases"]:
            store.client.drop_alias(alias)


def expire(store: MilvusStore, seconds: int) -> Manifest:
    """Have rows vanish so long after they were written; 0: never."""
    if store.server.embedded:
        raise InputError("an embedded database does not let rows expire; a server does: dresd store export")
    return store.save(replace(store.manifest, ttl=seconds))


def drop_source(store: MilvusStore, origin: str) -> int:
    """Remove the rows of a source; returns how many. A partition of its own is dropped, which costs nothing."""
    client, name, before = store.require_sealed().client, store.collection, store.count()
    with explained(store.uri):
        partition = partition_of(origin)
        if store.manifest.partition_by == "source" and client.has_partition(name, partition):
            if not store.server.embedded:  # where a partition cannot be released, it need not be
                client.release_partitions(name, [partition])
            client.drop_partition(name, partition)
        else:
            client.delete(name, filter=f"origin == {json.dumps(origin, ensure_ascii=False)}")
    after = store.count()
    if before == after == store.manifest.rows:  # else an interruption came before the manifest was written
        raise StoreError(f"'{name}' has no rows of the source '{origin}'; see the sources with: dresd inspect")
    store.save(replace(store.manifest, rows=after, seal=uuid.uuid4().hex[:16]))
    return before - after

"""Administration of stores: list, reindex, publish under an alias, expire, remove."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dresd_milvus.errors import InputError, LostRowsError, StoreError
from dresd_milvus.milvus.client.connection import connection
from dresd_milvus.milvus.client.errors import translated_errors
from dresd_milvus.milvus.collections import key_index_state, store_names, wait_for_index
from dresd_milvus.milvus.indexes import Chosen
from dresd_milvus.milvus.projections import is_loaded, make_ready, save_projection
from dresd_milvus.milvus.schema import MANIFEST, key_index, partition_of
from dresd_milvus.milvus.store import SEAL_SECONDS, MilvusStore
from dresd_milvus.retrieval.names import check_name, is_embedded
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.store import Manifest


def list_stores(uri: str, token: str = "") -> list[dict[str, Any]]:
    """{collection, aliases, rows, index, loaded, state, source, model} of every collection of a database.

    A collection of another program, or one that cannot be read, has no more than collection, aliases, loaded and state.
    Raises StoreError.
    """
    with connection(uri, token) as client:
        return [_summary_or_why(client, uri, name) for name in sorted(store_names(client, uri))]


def _summary_or_why(client: Any, uri: str, name: str) -> dict[str, Any]:
    """The summary of a collection; of one that is damaged, why it cannot be read: the others are still there."""
    from dresd_milvus.milvus.client.libraries import MilvusException

    try:
        return _summary(client, name)
    except (StoreError, MilvusException) as error:
        if not is_embedded(uri) and not isinstance(error, StoreError):
            raise  # the server, not the collection
        reason = str(error).splitlines()[0]
        return {"collection": name, "aliases": [], "loaded": None, "state": f"cannot be read ({reason})"}


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
    """Give a store another index, or other search parameters for the index that it has; returns its new manifest.

    index: see Chosen.parse, or 'auto'. progress: gets the number of rows that were indexed since the last call.
    A store cannot be searched while its index is built. Raises InputError for wrong parameters and StoreError for an
    index that the server lacks, both before anything is changed.
    """
    manifest = store.manifest
    chosen = store.server.choose(index, manifest.rows, manifest.dim, manifest.vectors == "float16")
    with translated_errors(store.uri):
        if not _built(store, chosen):  # not by the manifest, which a failed attempt leaves as it was
            store.client.release_collection(store.collection)
            for name in store.client.list_indexes(store.collection, field_name="vector"):
                store.client.drop_index(store.collection, name)
            # wait_for_index waits instead of pymilvus, which has no limit.
            store.client.create_index(store.collection, key_index(store.client, chosen), sync=False)
            wait_for_index(store.client, store.uri, store.collection, time.monotonic() + SEAL_SECONDS, progress)
        make_ready(store.client, store.collection)
    return store.save(replace(manifest, index=str(chosen)))


def _built(store: MilvusStore, chosen: Chosen) -> bool:
    """Whether the server has this index, built with these parameters over all rows."""
    state = key_index_state(store.client, store.collection)
    params = {name: str(value) for name, value in chosen.build_params().items()}
    return (
        state.get("index_type") == chosen.index.name
        and all(str(state.get(name, value)) == value for name, value in params.items())
        and int(state.get("pending_index_rows", 0)) == 0
    )


def publish(store: MilvusStore, alias: str) -> str | None:
    """Make an alias name this store; returns the collection that it named before, None if there was none.

    Readers of the old collection keep it until it is dropped and then switch to this one. Raises InputError when the
    alias is the name of a collection or one that servers refuse, StoreError when the store is not sealed.
    """
    check_name(alias, "alias")
    store.require_sealed().load()
    client, uri = store.client, store.uri
    with translated_errors(uri):
        if alias in client.list_collections():
            raise InputError(f"'{alias}' is the name of a collection in {uri}; choose another alias")
        old = _collection_of(client, alias)
        if old is None:
            client.create_alias(store.collection, alias)
        elif old != store.collection:
            client.alter_alias(store.collection, alias)
    return old if old != store.collection else None


def _collection_of(client: Any, alias: str) -> str | None:
    for name in client.list_collections():
        if alias in client.list_aliases(name)["aliases"]:
            return name
    return None


def drop(store: MilvusStore) -> None:
    """Remove a store; raises InputError while an alias names it, because readers may use that."""
    with translated_errors(store.uri):
        aliases = store.client.list_aliases(store.collection)["aliases"]
    if aliases:
        raise InputError(
            f"'{store.collection}' is published as {', '.join(sorted(aliases))}; publish another collection "
            "under that name first, or give --force"
        )
    store.drop()


def remove(uri: str, collection: str, token: str = "") -> None:
    """Remove a collection, also one that cannot be read; StoreError when another program made it."""
    try:
        with MilvusStore.open(uri, collection, token) as store:
            store.drop()
    except LostRowsError:
        with connection(uri, token) as client:
            client.drop_collection(collection)


def restore_projection(store: MilvusStore, projection: Projection) -> bool:
    """Write the projection of a store's keys again if the database has lost it; returns whether it was lost."""
    with translated_errors(store.uri):
        return save_projection(store.client, store.uri, projection)


def drop_aliases(store: MilvusStore) -> None:
    """Remove all aliases of a store."""
    with translated_errors(store.uri):
        for alias in store.client.list_aliases(store.collection)["aliases"]:
            store.client.drop_alias(alias)


def expire(store: MilvusStore, seconds: int) -> Manifest:
    """Let rows expire this number of seconds after they were written, 0 for never; returns the new manifest.

    Raises InputError for an embedded database, which has no expiry.
    """
    if store.server.embedded:
        raise InputError("an embedded database does not let rows expire; a server does: dresd store export")
    return store.save(replace(store.manifest, ttl=seconds))


def drop_source(store: MilvusStore, origin: str) -> int:
    """Remove the rows of a source; returns their number. A source with a partition of its own costs nothing to remove.

    origin: see Rows. Raises StoreError when there are no rows of this source.
    """
    client, name, before = store.require_sealed().client, store.collection, store.count()
    with translated_errors(store.uri):
        partition = partition_of(origin)
        if store.manifest.partition_by == "source" and client.has_partition(name, partition):
            if not store.server.embedded:  # it can neither release a partition nor needs to
                client.release_partitions(name, [partition])
            client.drop_partition(name, partition)
        else:
            client.delete(name, filter=f"origin == {json.dumps(origin, ensure_ascii=False)}")
    after = store.count()
    if before == after == store.manifest.rows:  # else an earlier call removed them and was interrupted
        raise StoreError(f"'{name}' has no rows of the source '{origin}'; see the sources with: dresd inspect")
    store.save(replace(store.manifest, rows=after, seal=uuid.uuid4().hex[:16]))
    return before - after

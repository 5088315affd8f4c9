"""Administration of stores, embedded and on a server."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.milvus import MilvusStore, admin, collections
from dresd_milvus.milvus.schema import TTL
from tests.oracle import example_manifest, example_projection, example_rows
from tests.sealed import build_collection

QUERY = example_rows(1, seed=1).vectors


def test_a_new_version_is_published_without_a_failed_search(database: str) -> None:
    build_collection(database, "one", seed=0).close()
    with MilvusStore.open(database, "one") as store:
        assert admin.publish(store, "live") is None
        assert admin.publish(store, "live") is None  # again changes nothing
    reader = MilvusStore.open(database, "live")
    assert reader.collection == "one"
    failures, versions, done = [], set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                hits = reader.search(QUERY, None, 5)
                assert np.isfinite(hits.scores).all()
                versions.add(hits.continuations[0].tobytes())
            except Exception as error:
                failures.append(error)
                return

    thread = threading.Thread(target=read)
    thread.start()
    with build_collection(database, "two", seed=5) as store:
        assert admin.publish(store, "live") == "one"
    with MilvusStore.open(database, "one") as old:
        admin.drop(old)
    expected = MilvusStore.open(database, "two").search(QUERY, None, 5).continuations[0].tobytes()
    for _ in range(500):
        if expected in versions or failures:
            break
        threading.Event().wait(0.02)
    done.set()
    thread.join()
    assert not failures and expected in versions and len(versions) == 2
    assert reader.collection == "two"
    reader.close()


def test_a_published_store_is_not_dropped_by_mistake(database: str) -> None:
    with build_collection(database, "one") as store:
        admin.publish(store, "live")
        with pytest.raises(InputError, match="published as live"):
            admin.drop(store)
        with pytest.raises(InputError, match="name of a collection"):
            admin.publish(store, "one")
        assert [each["aliases"] for each in admin.list_stores(database)] == [["live"]]
        admin.drop_aliases(store)
        admin.drop(store)
    assert admin.list_stores(database) == []


def test_an_unfinished_store_is_listed_and_not_published(database: str) -> None:
    with MilvusStore.create(database, "half", example_manifest(), example_projection()) as store:
        with pytest.raises(StoreError, match="not sealed"):
            admin.publish(store, "live")
        store.client.create_collection("foreign", dimension=4)
        states = {each["collection"]: each["state"] for each in admin.list_stores(database)}
    assert states == {"half": "unfinished", "foreign": "of another program"}


def test_another_index_finds_the_same_rows(database: str) -> None:
    with build_collection(database, "rows") as store:
        before = store.search(QUERY, None, 5)
        admin.reindex(store, "HNSW:M=8,efConstruction=64")
        assert store.index()["index_type"] == "HNSW"
        admin.reindex(store, "HNSW:M=8,efConstruction=64,ef=512")  # search parameters only
    with MilvusStore.open(database, "rows") as store:
        assert store.chosen.values["ef"] == 512
        np.testing.assert_allclose(store.search(QUERY, None, 5).scores, before.scores, atol=1e-5)
        with pytest.raises(StoreError, match="nearest it has is --index HNSW"):
            admin.reindex(store, "GPU_CAGRA")


def test_a_failed_attempt_at_an_index_does_not_hide_behind_the_manifest(server_uri: str) -> None:
    """The packaged server accepts DISKANN and does not build it; the manifest still names the index before it."""
    with build_collection(server_uri, "rows", 2000, index="HNSW") as store:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(StoreError, match="has not built it"):
            patch.setattr(collections, "INDEX_STALL_SECONDS", 2.0)
            admin.reindex(store, "DISKANN")
        admin.reindex(store, "HNSW")
        assert store.index()["index_type"] == "HNSW"
        assert np.isfinite(store.search(QUERY, None, 5).scores).all()


def test_an_unfinished_store_loses_no_source(database: str) -> None:
    store = MilvusStore.create(database, "half", example_manifest(), example_projection())
    with store, pytest.raises(StoreError, match="not sealed"):
        admin.drop_source(store, "test")


def test_a_store_with_missing_rows_is_not_sealed(database: str) -> None:
    with MilvusStore.create(database, "rows", example_manifest(), example_projection()) as store:
        store.write(example_rows(30))
        with pytest.raises(StoreError, match="holds 30 rows and 31 were sent; run the same command again"):
            store.seal(store.manifest, rows=31)
        assert not MilvusStore.open(database, "rows").manifest.seal


def test_a_source_is_removed_alone(database: str) -> None:
    for name, layout in {"together": {}, "apart": {"partition_by": "source"}}.items():
        manifest = example_manifest(**layout)
        with MilvusStore.create(database, name, manifest, example_projection()) as store:
            rows = example_rows(40)
            kept = {"pk": rows.pk[:25], "vectors": rows.vectors[:25], "next_tokens": rows.next_tokens[:25]}
            gone = {"pk": rows.pk[25:], "vectors": rows.vectors[25:], "next_tokens": rows.next_tokens[25:]}
            store.write(replace(rows, **kept, origin="kept", previews=None))
            store.write(replace(rows, **gone, origin='a "quoted" source', previews=None))
            seal = store.seal(manifest).seal
            assert admin.drop_source(store, 'a "quoted" source') == 15
            assert sorted(pk for batch in store.scan() for pk in batch.pk.tolist()) == sorted(rows.pk[:25].tolist())
            assert store.manifest.rows == 25 and store.manifest.seal != seal
            with pytest.raises(StoreError, match="no rows of the source"):
                admin.drop_source(store, "never there")


def test_rows_expire_where_a_server_lets_them(database: str) -> None:
    with build_collection(database, "rows") as store:
        if store.server.embedded:
            with pytest.raises(InputError, match="does not let rows expire"):
                admin.expire(store, 3600)
            return
        admin.expire(store, 3600)
        assert store.client.describe_collection("rows")["properties"][TTL] == "3600"
        assert MilvusStore.open(database, "rows").manifest.ttl == 3600
        assert admin.expire(store, 0).ttl == 0 and store.count() == 60
        assert store.client.describe_collection("rows")["properties"][TTL] == "0"

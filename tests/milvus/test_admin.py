"""Administration of stores, embedded and on a server."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.milvus import MilvusStore, admin, collections
from dresd_milvus.milvus.schema import TTL
from dresd_milvus.storage.inspection import inspect_store
from dresd_milvus.storage.recall import measure_recall
from dresd_milvus.storage.transfer import export_store, import_store
from tests.oracle import example_manifest, example_projection, example_rows

QUERY = example_rows(1, seed=1).vectors


@pytest.fixture(params=["milvus-lite", "server"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "a.db") if request.param == "milvus-lite" else request.getfixturevalue("server_uri")


@pytest.fixture
def lite(tmp_path: Path) -> str:
    return str(tmp_path / "lite.db")


def build(uri: str, name: str, rows: int = 60, seed: int = 0, **layout: object) -> MilvusStore:
    manifest = example_manifest(**{"build": f"{name}-{seed}", **layout})
    store = MilvusStore.create(uri, name, manifest, example_projection())
    store.write(example_rows(rows, seed=seed))
    store.seal(manifest)
    return store


def test_a_new_version_is_published_without_a_failed_search(uri: str) -> None:
    build(uri, "one", seed=0).close()
    with MilvusStore.open(uri, "one") as store:
        assert admin.publish(store, "live") is None
        assert admin.publish(store, "live") is None  # again changes nothing
    reader = MilvusStore.open(uri, "live")
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
    with build(uri, "two", seed=5) as store:
        assert admin.publish(store, "live") == "one"
    with MilvusStore.open(uri, "one") as old:
        admin.drop(old)
    expected = MilvusStore.open(uri, "two").search(QUERY, None, 5).continuations[0].tobytes()
    for _ in range(500):
        if expected in versions or failures:
            break
        threading.Event().wait(0.02)
    done.set()
    thread.join()
    assert not failures and expected in versions and len(versions) == 2
    assert reader.collection == "two"
    reader.close()


def test_a_published_store_is_not_dropped_by_mistake(uri: str) -> None:
    with build(uri, "one") as store:
        admin.publish(store, "live")
        with pytest.raises(InputError, match="published as live"):
            admin.drop(store)
        with pytest.raises(InputError, match="name of a collection"):
            admin.publish(store, "one")
        assert [each["aliases"] for each in admin.list_stores(uri)] == [["live"]]
        admin.drop_aliases(store)
        admin.drop(store)
    assert admin.list_stores(uri) == []


def test_an_unfinished_store_is_listed_and_not_published(uri: str) -> None:
    with MilvusStore.create(uri, "half", example_manifest(), example_projection()) as store:
        with pytest.raises(StoreError, match="not sealed"):
            admin.publish(store, "live")
        store.client.create_collection("foreign", dimension=4)
        states = {each["collection"]: each["state"] for each in admin.list_stores(uri)}
    assert states == {"half": "unfinished", "foreign": "of another program"}


def test_another_index_finds_the_same_rows(uri: str) -> None:
    with build(uri, "rows") as store:
        before = store.search(QUERY, None, 5)
        admin.reindex(store, "HNSW:M=8,efConstruction=64")
        assert store.index()["index_type"] == "HNSW"
        admin.reindex(store, "HNSW:M=8,efConstruction=64,ef=512")  # search parameters only
    with MilvusStore.open(uri, "rows") as store:
        assert store.chosen.values["ef"] == 512
        np.testing.assert_allclose(store.search(QUERY, None, 5).scores, before.scores, atol=1e-5)
        with pytest.raises(StoreError, match="nearest it has is --index HNSW"):
            admin.reindex(store, "GPU_CAGRA")


def test_a_failed_attempt_at_an_index_does_not_hide_behind_the_manifest(server_uri: str) -> None:
    """The packaged server accepts DISKANN and does not build it; the manifest still names the index before it."""
    with build(server_uri, "rows", 2000, index="HNSW") as store:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(StoreError, match="has not built it"):
            patch.setattr(collections, "INDEX_STALL_SECONDS", 2.0)
            admin.reindex(store, "DISKANN")
        admin.reindex(store, "HNSW")
        assert store.index()["index_type"] == "HNSW"
        assert np.isfinite(store.search(QUERY, None, 5).scores).all()


def test_an_unfinished_store_loses_no_source(uri: str) -> None:
    store = MilvusStore.create(uri, "half", example_manifest(), example_projection())
    with store, pytest.raises(StoreError, match="not sealed"):
        admin.drop_source(store, "test")


def test_a_store_with_missing_rows_is_not_sealed(uri: str) -> None:
    with MilvusStore.create(uri, "rows", example_manifest(), example_projection()) as store:
        store.write(example_rows(30))
        with pytest.raises(StoreError, match="holds 30 rows and 31 were sent; drop it and build it anew"):
            store.seal(store.manifest, rows=31)
        assert not MilvusStore.open(uri, "rows").manifest.seal


def test_a_source_is_removed_alone(uri: str) -> None:
    for name, layout in {"together": {}, "apart": {"partition_by": "source"}}.items():
        manifest = example_manifest(**layout)
        with MilvusStore.create(uri, name, manifest, example_projection()) as store:
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


@pytest.fixture
def exported(lite: str, tmp_path: Path) -> Iterator[Path]:
    with build(lite, "rows", 300) as store:
        assert export_store(store, tmp_path / "export") == 300
        with pytest.raises(InputError, match="is there already"):
            export_store(store, tmp_path / "export")
        yield tmp_path / "export"


def test_a_store_moves_between_databases_row_for_row(exported: Path, uri: str, lite: str) -> None:
    manifest = import_store(exported, uri, "moved", index="HNSW", partition_by="source")
    with MilvusStore.open(lite, "rows") as before, MilvusStore.open(uri, "moved") as after:
        there, here = inspect_store(before), inspect_store(after)
        assert here["checksum"] == there["checksum"] and here["rows"] == 300 == manifest.rows
        assert after.projection().fingerprint == before.projection().fingerprint
        old, new = ({row["pk"]: row for row in store.sample(300)} for store in (before, after))
        assert new == old
        vectors = [
            {pk: vector.tolist() for rows in store.scan() for pk, vector in zip(rows.pk, rows.vectors, strict=True)}
            for store in (before, after)
        ]
        assert vectors[0] == vectors[1]
    with pytest.raises(StoreError, match="already in"):
        import_store(exported, uri, "moved")


def test_an_interrupted_import_goes_on(exported: Path, uri: str) -> None:
    def interrupt(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_store(exported, uri, "moved", progress=interrupt)
    with pytest.raises(StoreError, match="begun with other options"):
        import_store(exported, uri, "moved", index="HNSW:M=32")
    assert import_store(exported, uri, "moved").rows == 300


def test_files_that_were_changed_are_refused(exported: Path, tmp_path: Path) -> None:
    path = next(exported.glob("rows-*.parquet"))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StoreError, match=r"rows-00000\.parquet cannot be read"):
        import_store(exported, str(tmp_path / "b.db"), "moved")
    path.unlink()
    with pytest.raises(StoreError, match="not those that were exported"):
        import_store(exported, str(tmp_path / "c.db"), "moved")
    with pytest.raises(InputError, match="holds no exported store"):
        import_store(tmp_path, str(tmp_path / "d.db"), "moved")


def test_a_failed_export_leaves_nothing(lite: str, tmp_path: Path) -> None:
    def fail(rows: int) -> None:
        raise OSError("the disk is gone")

    with build(lite, "rows") as store, pytest.raises(OSError, match="the disk is gone"):
        export_store(store, tmp_path / "export", fail)
    assert list(tmp_path.glob("export*")) == []


def test_rows_of_a_store_that_expires_are_not_replicated(uri: str) -> None:
    with build(uri, "rows") as store:
        if store.server.embedded:
            with pytest.raises(InputError, match="does not let rows expire"):
                admin.expire(store, 3600)
            return
        admin.expire(store, 3600)
        assert store.client.describe_collection("rows")["properties"][TTL] == "3600"
        assert MilvusStore.open(uri, "rows").manifest.ttl == 3600
        assert admin.expire(store, 0).ttl == 0 and store.count() == 60
        assert store.client.describe_collection("rows")["properties"][TTL] == "0"


def test_recall_of_an_exact_index_is_whole(uri: str) -> None:
    with build(uri, "rows", 400) as store:
        plans = measure_recall(store)
    assert {plan.plan for plan in plans} == {"filter", "oversample"}
    best = next(plan for plan in plans if plan.plan == "filter")
    assert best.stored == best.perturbed == best.mrr == 1.0 and best.enough and 0 < best.p50_ms <= best.p95_ms


def test_recall_shows_a_plan_that_misses_rows(uri: str) -> None:
    """Oversampling k = 50 four times cannot find the ten nearest of 1 in 300 first tokens among 3000 rows."""
    manifest = example_manifest()
    with MilvusStore.create(uri, "rows", manifest, example_projection()) as store:
        store.write(example_rows(3000, vocabulary=300))
        store.seal(manifest)
        found = {plan.plan: plan for plan in measure_recall(store)}
    assert found["filter"].enough and not found["oversample"].enough

"""Opening a store for drafting: what fits, and how it is searched."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dresd_milvus.defaults import Search
from dresd_milvus.errors import InputError, MismatchError, StoreError
from dresd_milvus.milvus import MilvusStore, admin, local_folder
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.progress import Silent
from dresd_milvus.retrieval.circuit_breaker import CircuitBreaker
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.storage.opening import open_retrieval
from dresd_milvus.target.hf_target import HFTarget
from tests.oracle import example_manifest, example_projection, example_rows
from tests.sealed import build_collection

QUERY, TOKEN = example_rows(1, seed=1).vectors, np.array([2])


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """An embedded database with the sealed collection 'rows'."""
    uri = str(tmp_path / "a.db")
    build_collection(uri).close()
    return uri


@pytest.fixture
def model(tiny: HFTarget) -> LoadedModel:
    """The model that the collection was built with, as its manifest knows it."""
    about = example_manifest()
    return LoadedModel("tiny", tiny, None, about.model_fingerprint, about.tokenizer_hash)


class Recorded(Silent):
    """Keeps the phases that were begun and their amounts of work."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int | None]] = []

    def phase(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        self.phases.append((name, total))


def replicas(uri: str) -> list[Path]:
    return list((local_folder(uri) / "replicas").glob("*"))


def test_a_replica_is_kept_and_used_again(uri: str, model: LoadedModel) -> None:
    progress = Recorded()
    first, second = (open_retrieval(uri, "rows", model, progress=progress) for _ in range(2))
    assert [rows for _, rows in progress.phases] == [60] and len(replicas(uri)) == 1
    assert isinstance(second.store, Replica) and second.search_mode == "replica" and second.manifest == first.manifest
    assert second.projection.fingerprint == example_projection().fingerprint


def test_a_replica_of_older_rows_is_replaced(uri: str, model: LoadedModel) -> None:
    open_retrieval(uri, "rows", model)
    (before,) = replicas(uri)
    with MilvusStore.open(uri, "rows") as store:
        store.drop()
    build_collection(uri, rows=70).close()
    assert len(open_retrieval(uri, "rows", model).store) == 70
    assert len(replicas(uri)) == 1 and replicas(uri) != [before]


@pytest.mark.parametrize(("search", "plan"), [("server", "filter"), ("filter", "filter"), ("oversample", "oversample")])
def test_the_database_itself_is_searched_where_that_is_asked_for(
    uri: str, model: LoadedModel, search: Search, plan: str
) -> None:
    """For 20 hits, oversampling fetches all of the 60 rows."""
    expected = open_retrieval(uri, "rows", model, "replica").store.search(QUERY, TOKEN, 20)
    opened = open_retrieval(uri, "rows", model, search)
    assert isinstance(opened.store, CircuitBreaker) and opened.search_mode == plan
    opened.store.timeout = 30.0
    hits = opened.store.search(QUERY, TOKEN, 20)
    np.testing.assert_allclose(hits.scores, expected.scores, atol=2e-3)
    assert opened.failure_summary() == "" and not opened.closed
    opened.close()
    assert opened.closed


def test_a_plan_that_the_collection_does_not_allow_is_refused(uri: str, model: LoadedModel) -> None:
    with pytest.raises(InputError, match="has the index FLAT"):
        open_retrieval(uri, "rows", model, "partition")


@pytest.mark.parametrize("field", ["fingerprint", "tokenizer_hash"])
def test_a_store_of_another_model_is_refused_before_it_is_copied(uri: str, model: LoadedModel, field: str) -> None:
    with pytest.raises(MismatchError, match="built with something else"):
        open_retrieval(uri, "rows", replace(model, **{field: "another"}))
    assert replicas(uri) == []


def test_a_store_that_is_not_sealed_is_refused(tmp_path: Path, model: LoadedModel) -> None:
    MilvusStore.create(str(tmp_path / "b.db"), "rows", example_manifest(), example_projection()).close()
    with pytest.raises(StoreError, match="not sealed"):
        open_retrieval(str(tmp_path / "b.db"), "rows", model)


def test_rows_that_expire_are_never_copied(server_uri: str, model: LoadedModel) -> None:
    with build_collection(server_uri) as store:
        admin.expire(store, 3600)
    with pytest.raises(InputError, match="a replica would keep them"):
        open_retrieval(server_uri, "rows", model, "replica")
    opened = open_retrieval(server_uri, "rows", model)
    assert opened.search_mode == "filter"
    opened.close()

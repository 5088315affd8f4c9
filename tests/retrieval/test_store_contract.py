"""The contract of every store, tested on the oracle, Milvus Lite, a Milvus server and the replica of a collection."""

from collections.abc import Iterator

import numpy as np
import pytest

from dresd_milvus.milvus import MilvusStore
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.store import NO_ROW, PAD, ContinuationStore, Rows
from tests.oracle import MemoryStore, example_manifest, example_projection, example_rows

ROWS = example_rows(301)

ORIGINS = ("gsm", 'an "odd" name\\')
PARTS = [
    Rows(ROWS.pk[at], ROWS.vectors[at], ROWS.next_tokens[at], origin, (ROWS.previews or [])[at])
    for origin, at in zip(ORIGINS, (slice(0, 200), slice(200, 301)), strict=True)
]
"""The same rows, of two origins."""

MILVUS = {
    "milvus-lite": {},
    "milvus-lite-by-token": {"partition_by": "token", "partitions": 4},
    "server": {},
    "server-by-token": {"partition_by": "token", "partitions": 4},
    "server-by-source": {"partition_by": "source"},
    "server-hnsw": {"index": "HNSW"},
}


@pytest.fixture(scope="module", params=["oracle", "replica", *MILVUS])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContinuationStore]:
    """A sealed store of ROWS of the kind under test; one for all tests, as a server needs seconds to make one."""
    kind, folder = request.param, tmp_path_factory.mktemp("store")
    manifest = example_manifest(**MILVUS.get(kind, {}))
    if kind == "oracle":
        yield oracle()
        return
    uri = request.getfixturevalue("milvus_server").uri if kind.startswith("server") else str(folder / "a.db")
    with MilvusStore.create(uri, f"contract_{kind.replace('-', '_')}", manifest, example_projection()) as milvus:
        for part in PARTS:
            milvus.write(part)
        milvus.seal(manifest)
        if kind.startswith("replica"):
            yield Replica.build(milvus.manifest, milvus.scan(), folder / "replica")
        else:
            yield milvus


def oracle() -> MemoryStore:
    memory = MemoryStore(example_manifest())
    for part in PARTS:
        memory.write(part)
    memory.seal(memory.manifest)
    return memory


@pytest.mark.parametrize("filtered", [True, False])
def test_search_finds_the_nearest_rows_of_the_first_token(store: ContinuationStore, filtered: bool) -> None:
    queries = example_rows(7, seed=1).vectors
    tokens = np.array([0, 1, 2, 3, 4, 5, 0]) if filtered else None
    hits, expected = store.search(queries, tokens, 10), oracle().search(queries, tokens, 10)
    np.testing.assert_allclose(hits.scores, expected.scores, atol=2e-3)
    same = hits.continuations == expected.continuations
    assert same.all(axis=2).mean() > 0.95  # half precision may swap near neighbours
    if filtered:
        assert (hits.continuations[:, :, 0] == np.asarray(tokens)[:, None]).all()


@pytest.mark.parametrize("origin", [*ORIGINS, "none"])
@pytest.mark.parametrize("filtered", [True, False])
def test_of_an_origin_only_its_own_rows_are_found(store: ContinuationStore, origin: str, filtered: bool) -> None:
    tokens = np.array([0, 1, 2, 3, 4, 5, 0]) if filtered else None
    queries = example_rows(7, seed=1).vectors
    hits, expected = (part.of_origin(origin).search(queries, tokens, 60) for part in (store, oracle()))
    np.testing.assert_allclose(hits.scores, expected.scores, atol=2e-3)
    own = {pk for part in PARTS if part.origin == origin for pk in part.pk.tolist()}
    assert set(hits.pks[np.isfinite(hits.scores)].tolist()) <= own and np.isfinite(hits.scores).any() == bool(own)


def test_missing_rows_are_padded(store: ContinuationStore) -> None:
    there = int((ROWS.next_tokens[:, 0] == 1).sum())
    hits = store.search(example_rows(2, seed=1).vectors, np.array([1, 77]), 200)
    assert int(np.isfinite(hits.scores[0]).sum()) == there < 200
    assert (hits.pks[0, there:] == NO_ROW).all() and (hits.pks[0, :there] != NO_ROW).all()
    assert (hits.continuations[0, there:] == PAD).all() and (hits.continuations[0, :there, 0] == 1).all()
    assert np.isneginf(hits.scores[1]).all() and (hits.continuations[1] == PAD).all()


def test_scores_come_best_first(store: ContinuationStore) -> None:
    hits = store.search(example_rows(3, seed=2).vectors, np.array([0, 1, 2]), 50)
    for scores in hits.scores:
        found = scores[np.isfinite(scores)]
        assert (np.diff(found) <= 0).all()


def test_the_manifest_counts_the_rows(store: ContinuationStore) -> None:
    assert store.manifest.rows == len(ROWS) and store.manifest.seal


def test_no_queries_give_no_hits(store: ContinuationStore) -> None:
    hits = store.search(np.empty((0, 8), np.float32), np.empty(0, np.int64), 5)
    assert hits.scores.shape == (0, 5) and hits.continuations.shape == (0, 5, 5)

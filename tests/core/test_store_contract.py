"""What every store promises, run over the oracle, Milvus Lite and the replica of a Milvus Lite collection."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dresd_milvus.milvus import MilvusStore
from dresd_milvus.replica import Replica
from dresd_milvus.store import PAD, ContinuationStore, Rows
from tests.oracle import MemoryStore, example_manifest, example_projection, example_rows

Builder = Callable[[Rows], ContinuationStore]


@pytest.fixture(params=["oracle", "milvus-lite", "replica", "replica-half"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Builder]:
    """Builds a sealed store of the kind under test from rows."""
    opened: list[MilvusStore] = []

    def make(rows: Rows) -> ContinuationStore:
        manifest = example_manifest(rows.vectors.shape[1], rows.next_tokens.shape[1])
        if request.param == "oracle":
            memory = MemoryStore(manifest)
            memory.write(rows)
            memory.seal(manifest)
            return memory
        milvus = MilvusStore.create(str(tmp_path / "a.db"), "rows", manifest, example_projection())
        opened.append(milvus)
        milvus.write(rows)
        milvus.seal(manifest)
        if request.param == "milvus-lite":
            return milvus
        return Replica.build(milvus.manifest, milvus.scan(), tmp_path / "replica", half="half" in request.param)

    yield make
    for store in opened:
        store.close()


def oracle_of(rows: Rows) -> MemoryStore:
    memory = MemoryStore(example_manifest(rows.vectors.shape[1], rows.next_tokens.shape[1]))
    memory.write(rows)
    return memory


@pytest.mark.parametrize("filtered", [True, False])
def test_search_finds_the_nearest_rows_of_the_first_token(build: Builder, filtered: bool) -> None:
    rows = example_rows(300)
    store, queries = build(rows), example_rows(7, seed=1).vectors
    tokens = np.array([0, 1, 2, 3, 4, 5, 0]) if filtered else None
    hits, expected = store.search(queries, tokens, 10), oracle_of(rows).search(queries, tokens, 10)
    np.testing.assert_allclose(hits.scores, expected.scores, atol=2e-3)
    same = hits.continuations == expected.continuations
    assert same.all(axis=2).mean() > 0.95  # half precision may swap near neighbours
    if filtered:
        assert (hits.continuations[:, :, 0] == np.asarray(tokens)[:, None]).all()


def test_missing_rows_are_padded(build: Builder) -> None:
    store = build(example_rows(12, vocabulary=3))
    hits = store.search(example_rows(2, seed=1).vectors, np.array([1, 77]), 20)
    found = int(np.isfinite(hits.scores[0]).sum())
    assert 0 < found < 20
    assert (hits.continuations[0, found:] == PAD).all() and (hits.continuations[0, :found, 0] == 1).all()
    assert np.isneginf(hits.scores[1]).all() and (hits.continuations[1] == PAD).all()


def test_scores_come_best_first(build: Builder) -> None:
    hits = build(example_rows(100)).search(example_rows(3, seed=2).vectors, np.array([0, 1, 2]), 50)
    for scores in hits.scores:
        found = scores[np.isfinite(scores)]
        assert (np.diff(found) <= 0).all()


def test_the_manifest_counts_the_rows(build: Builder) -> None:
    manifest = build(example_rows(41)).manifest
    assert manifest.rows == 41 and manifest.seal

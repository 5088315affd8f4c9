"""Dense retrieval as evidence, waited for or in the background; stale hits for as long as the text follows them."""

from concurrent.futures import Executor, Future
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.hybrid.dense_sources import MOST, BackgroundSearch, DenseSource, StaleHits
from dresd_milvus.drafters.hybrid.evidence import Evidence, Kind
from dresd_milvus.retrieval.store import ContinuationStore, Hits, Rows
from tests.oracle import MemoryStore, example_manifest, example_projection, example_replica, example_rows

DEPTH = 5

MANIFEST = example_manifest(rows=60)
REPLICA, MEMORY = example_replica(example_rows(60, vocabulary=4), MANIFEST), MemoryStore(MANIFEST)
MEMORY.write(Rows(np.arange(60), REPLICA.keys.vectors(), REPLICA.continuations))


def proposed(store: ContinuationStore, context: Context, neighbours: int) -> Evidence:
    return DenseSource(Dense(store, example_projection(), neighbours)).propose(context)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@given(
    seed=st.integers(0, 99), root=st.integers(0, 5), node=st.integers(0, 2), neighbours=st.integers(1, 70),
    depth=st.integers(1, 9),
)  # fmt: skip
def test_the_evidence_is_the_nearest_rows_that_begin_with_the_root(
    dtype: torch.dtype, seed: int, root: int, node: int, neighbours: int, depth: int
) -> None:
    states = torch.randn(1, 3, 12, generator=torch.Generator().manual_seed(seed)).to(dtype)
    context = Context([0, root], states, 16, depth, node)
    ours, theirs = (proposed(store, context, neighbours) for store in (REPLICA, MEMORY))
    assert len(ours.rows) == len(theirs.rows) == min(neighbours, int((REPLICA.continuations[:, 0] == root).sum()))
    assert (ours.kinds == Kind.DENSE).all() and ours.quality.tolist() == theirs.quality.tolist()
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-4)
    assert ours.rows.tolist() == theirs.rows.tolist() and ours.rows.shape[1] <= depth


def test_quality_is_the_similarity_above_four_tenths() -> None:
    """And a row that does not begin with the root is no evidence, whatever a store's filter let through."""
    scores = np.array([[0.95, 0.61, 0.3, 0.9]], np.float32)
    rows = np.array([[[7, 1, 2], [7, 3, -1], [7, 4, 4], [8, 5, 5]]], np.int32)

    class Known(MemoryStore):
        def search(self, *arguments: Any) -> Hits:
            return Hits(scores, rows)

    found = proposed(Known(example_manifest()), Context([7], torch.zeros(12), 16, 2), 4)
    assert found.rows.tolist() == [[1, 2], [3, -1], [4, 4]] and found.quality.tolist() == [5, 2, 0]
    np.testing.assert_allclose(found.weights, np.exp(10 * np.array([0, -0.34, -0.65])), rtol=1e-5)


def left(stale: StaleHits, tokens: list[int]) -> list[tuple[list[int], int]]:
    """(tokens after the root, how many were right) of the hits that are left when the text is these tokens."""
    stale.follow(tokens)
    return read(stale.evidence(DEPTH))


def read(evidence: Evidence) -> list[tuple[list[int], int]]:
    assert (evidence.kinds == Kind.STALE).all()
    rows = zip(evidence.rows.tolist(), evidence.quality.tolist(), strict=True)
    return [([token for token in row if token >= 0], quality) for row, quality in rows]


@given(st.data())
def test_hits_are_left_as_long_as_the_text_has_followed_them(data: st.DataObject) -> None:
    """Against the rule in words: the hit begins at its root and agrees with all that came since."""
    tokens = st.integers(0, 2)
    text, stale = [0], StaleHits(4)
    stale.begin(text)
    hits: list[tuple[int, list[int]]] = []  # (where the hit's first token lies, the hit)
    for _ in range(data.draw(st.integers(1, 6))):
        expected = [
            (hit[len(text) - at :], len(text) - at - 1)
            for at, hit in hits
            if text[at:] == hit[: len(text) - at] and len(hit) > len(text) - at
        ]
        assert left(stale, text) == expected
        new = data.draw(st.lists(st.lists(tokens, min_size=1, max_size=4), max_size=5))
        rows = np.full((len(new), 4), -1, np.int32)
        for row, hit in zip(rows, new, strict=True):
            row[: len(hit)] = hit
        stale.add(rows, np.ones(len(new)), text[-1:])
        hits += [(len(text) - 1, hit) for hit in new]
        text += data.draw(st.lists(tokens, min_size=1, max_size=3))


def test_the_latest_hits_are_kept() -> None:
    stale = StaleHits(3)
    stale.begin([7])
    stale.add(np.tile(np.array([7, 1, 1], np.int32), (MOST, 1)), np.ones(MOST), [7])
    stale.add(np.array([[7, 2, 2]], np.int32), np.ones(1), [7])
    rows = left(stale, [7])
    assert len(rows) == MOST and rows[-1] == ([2, 2], 0) and rows[0] == ([1, 1], 0)


def test_a_new_text_forgets_stale_hits() -> None:
    stale = StaleHits(3)
    stale.begin([7])
    stale.add(np.array([[7, 2, 2]], np.int32), np.ones(1), [7])
    stale.begin([7])
    assert left(stale, [7]) == []


class SlowStore(MemoryStore):
    """Answers when it is let."""

    let: Event
    begun: Event

    def search(self, *arguments: Any) -> Hits:
        self.begun.set()
        assert self.let.wait(10)
        return super().search(*arguments)


@pytest.fixture
def slow() -> tuple[BackgroundSearch, SlowStore]:
    store = SlowStore(example_manifest())
    store.let, store.begun = Event(), Event()
    store.write(example_rows(200, vocabulary=3))
    return BackgroundSearch(Dense(store, example_projection(), neighbours=20)), store


def test_a_search_is_not_waited_for_and_its_hits_come_later(slow: tuple[BackgroundSearch, SlowStore]) -> None:
    source, store = slow
    hidden = torch.randn(source.dense.projection.hidden_size)
    text = [1, 2]
    source.begin(text)
    assert read(source.propose(Context(text, hidden, 16, DEPTH))) == []
    assert store.begun.wait(10)
    hits = MemoryStore.search(store, source.dense.projection.query(hidden), np.array([2]), 20).continuations[0]
    text.append(int(hits[0, 1]))
    assert read(source.propose(Context(text, None, 16, DEPTH))) == [], "the search has not ended"
    store.let.set()
    assert source.searching is not None and source.searching.result(10)
    found = read(source.propose(Context(text, None, 16, DEPTH)))
    right = [row[2:][row[2:] >= 0].tolist() for row in hits if row[:2].tolist() == text[1:] and row[2] >= 0]
    assert right and [row for row, _ in found] == right


class Deferred(Executor):
    """Begins what it is given when it is told to."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.future: Future[Any] = Future()
        self.begin = lambda: self.future.set_result(fn(*args, **kwargs))
        return self.future


def test_a_search_that_begins_late_is_for_the_text_as_it_was_asked() -> None:
    store, executor, text = MemoryStore(example_manifest()), Deferred(), [1, 2]
    store.write(example_rows(200, vocabulary=3))
    source = BackgroundSearch(Dense(store, example_projection(), neighbours=20), executor)
    source.begin(text)
    source.propose(Context(text, torch.randn(source.dense.projection.hidden_size), 16, DEPTH))
    text.append(0)
    executor.begin()
    assert (executor.future.result().continuations[0, :, 0] == 2).all()


def test_hits_for_another_text_are_dropped(slow: tuple[BackgroundSearch, SlowStore]) -> None:
    source, store = slow
    source.propose(Context([1, 2], torch.randn(source.dense.projection.hidden_size), 16, DEPTH))
    asked = source.searching
    source.begin([2])
    store.let.set()
    assert asked is not None and asked.result(10)
    assert read(source.propose(Context([2], None, 16, DEPTH))) == []

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
from dresd_milvus.drafters.hybrid.dense_sources import MOST, BackgroundSearch, DenseSource, stale_hits
from dresd_milvus.drafters.hybrid.evidence import Evidence, Kind, Session
from dresd_milvus.retrieval.store import ContinuationStore, Hits, Rows
from tests.oracle import MemoryStore, example_manifest, example_projection, example_replica, example_rows

DEPTH = 5

MANIFEST = example_manifest(rows=60)
REPLICA, MEMORY = example_replica(example_rows(60, vocabulary=4), MANIFEST), MemoryStore(MANIFEST)
MEMORY.write(Rows(np.arange(60), REPLICA.rows.keys.vectors(), REPLICA.rows.continuations))


def proposed(store: ContinuationStore, context: Context, neighbours: int) -> Evidence:
    return Evidence.join(DenseSource(Dense(store, example_projection(), neighbours)).propose([context], [Session()])[0])


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
    assert len(ours.rows) == len(theirs.rows) == min(neighbours, int((REPLICA.rows.continuations[:, 0] == root).sum()))
    assert (ours.kinds == Kind.DENSE).all() and ours.quality.tolist() == theirs.quality.tolist()
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-4)
    assert ours.rows.tolist() == theirs.rows.tolist() and ours.rows.shape[1] <= depth


def test_quality_is_the_similarity_above_four_tenths() -> None:
    """And a row that does not begin with the root is no evidence, whatever a store's filter let through."""
    scores = np.array([[0.95, 0.61, 0.3, 0.9]], np.float32)
    rows = np.array([[[7, 1, 2], [7, 3, -1], [7, 4, 4], [8, 5, 5]]], np.int32)

    class Known(MemoryStore):
        def search(self, *arguments: Any) -> Hits:
            return Hits(scores, np.arange(4)[None], rows)

    found = proposed(Known(example_manifest()), Context([7], torch.zeros(12), 16, 2), 4)
    assert found.rows.tolist() == [[1, 2], [3, -1], [4, 4]] and found.quality.tolist() == [5, 2, 0]
    np.testing.assert_allclose(found.weights, np.exp(10 * np.array([0, -0.34, -0.65])), rtol=1e-5)


def left(session: Session, tokens: list[int]) -> list[tuple[list[int], int]]:
    """(tokens after the root, how many were right) of the hits that are left when the text is these tokens."""
    return read(stale_hits(session, tokens))


def read(evidence: Evidence) -> list[tuple[list[int], int]]:
    assert not len(evidence.rows) or (evidence.kinds == Kind.STALE).all()
    rows = zip(evidence.rows.tolist(), evidence.quality.tolist(), strict=True)
    return [([token for token in row if token >= 0], quality) for row, quality in rows]


def hits(*rows: list[int]) -> Evidence:
    """Hits of a search, without the root."""
    table = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int32)
    for into, row in zip(table, rows, strict=True):
        into[: len(row)] = row
    return Evidence.of(Kind.STALE, table, 0)


@given(st.data())
def test_hits_are_left_as_long_as_the_text_has_followed_them(data: st.DataObject) -> None:
    """Against the rule in words: the hit agrees with all that came since, and goes on. Hits may come late, and a text
    need not be looked at in between."""
    tokens = st.integers(0, 2)
    text, session = [0], Session()
    found: list[tuple[int, list[int]]] = []  # (length of the text when it was found, the hit)
    for _ in range(data.draw(st.integers(1, 6))):
        if data.draw(st.booleans()):
            expected = [
                (hit[len(text) - length :], len(text) - length)
                for length, hit in found
                if text[length:] == hit[: len(text) - length] and len(hit) > len(text) - length
            ]
            assert left(session, text) == expected
        new = data.draw(st.lists(st.lists(tokens, min_size=1, max_size=4), max_size=5))
        length = len(text)
        text += data.draw(st.lists(tokens, min_size=1, max_size=3))
        session.earlier.append((hits(*new), length))
        found += [(length, hit) for hit in new]


def test_the_latest_hits_are_kept() -> None:
    session = Session()
    session.earlier += [(hits(*[[1, 1]] * MOST), 1), (hits([2, 2]), 1)]
    rows = left(session, [7])
    assert len(rows) == MOST and rows[-1] == ([2, 2], 0) and rows[0] == ([1, 1], 0)


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
    hidden, session = torch.randn(source.dense.projection.hidden_size), Session()
    text = [1, 2]

    def proposed(states: torch.Tensor | None) -> list[tuple[list[int], int]]:
        return read(Evidence.join(source.propose([Context(text, states, 16, DEPTH)], [session])[0]))

    assert proposed(hidden) == []
    assert store.begun.wait(10)
    found = MemoryStore.search(store, source.dense.projection.query(hidden), np.array([2]), 20).continuations[0]
    text.append(int(found[0, 1]))
    assert proposed(None) == [], "the search has not ended"
    store.let.set()
    assert source.searching is not None and source.searching.result(10)
    right = [row[2:][row[2:] >= 0].tolist() for row in found if row[:2].tolist() == text[1:] and row[2] >= 0]
    assert right and [row for row, _ in proposed(None)] == right


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
    source.propose([Context(text, torch.randn(source.dense.projection.hidden_size), 16, DEPTH)], [Session()])
    text.append(0)
    executor.begin()
    assert (executor.future.result().continuations[0, :, 0] == 2).all()


def test_hits_for_another_text_are_not_proposed(slow: tuple[BackgroundSearch, SlowStore]) -> None:
    source, store = slow
    source.propose([Context([1, 2], torch.randn(source.dense.projection.hidden_size), 16, DEPTH)], [Session()])
    asked = source.searching
    store.let.set()
    assert asked is not None and asked.result(10)
    [parts] = source.propose([Context([1, 2], None, 16, DEPTH)], [Session()])
    assert read(Evidence.join(parts)) == []

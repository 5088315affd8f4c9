"""Hits of earlier searches: told as long as the text has followed them, and no longer."""

from concurrent.futures import Executor, Future
from threading import Event
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.drafters.ahead import Ahead
from dresd_milvus.drafters.base import Context
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.hybrid import Hybrid
from dresd_milvus.drafters.late import MOST, Late
from dresd_milvus.evidence import Kind, Table
from dresd_milvus.guard import Guarded, RemoteStore
from dresd_milvus.retrieval import Retrieval
from dresd_milvus.store import Hits
from dresd_milvus.systems import Sources, make_drafter
from tests.oracle import MemoryStore, example_manifest, example_projection, example_rows

DEPTH = 5


def told(late: Late, tokens: list[int]) -> list[tuple[list[int], int]]:
    """(tokens after the root, how many were right) of every row that it tells."""
    table = Table()
    late.follow(tokens)
    late.tell(Context(tokens, None, 16, DEPTH), table)
    return read(table)


def read(table: Table) -> list[tuple[list[int], int]]:
    told = slice(table.size)
    assert (table.whole.kinds[told] == Kind.LATE).all()
    rows = zip(table.whole.rows[told, :DEPTH].tolist(), table.whole.quality[told].tolist(), strict=True)
    return [([token for token in row if token >= 0], quality) for row, quality in rows]


@given(st.data())
def test_it_tells_what_is_left_of_the_hits_that_the_text_has_followed(data: st.DataObject) -> None:
    """Against the rule in words: the hit begins at its root and agrees with all that came since."""
    tokens = st.integers(0, 2)
    text, late = [0], Late(4)
    late.begin(text)
    hits: list[tuple[int, list[int]]] = []  # (where the hit's first token lies, the hit)
    for _ in range(data.draw(st.integers(1, 6))):
        expected = [
            (hit[len(text) - at :], len(text) - at - 1)
            for at, hit in hits
            if text[at:] == hit[: len(text) - at] and len(hit) > len(text) - at
        ]
        assert told(late, text) == expected
        new = data.draw(st.lists(st.lists(tokens, min_size=1, max_size=4), max_size=5))
        rows = np.full((len(new), 4), -1, np.int32)
        for row, hit in zip(rows, new, strict=True):
            row[: len(hit)] = hit
        late.keep(rows, np.ones(len(new)), text[-1:])
        hits += [(len(text) - 1, hit) for hit in new]
        text += data.draw(st.lists(tokens, min_size=1, max_size=3))


def test_the_latest_are_kept() -> None:
    late = Late(3)
    late.begin([7])
    late.keep(np.tile(np.array([7, 1, 1], np.int32), (MOST, 1)), np.ones(MOST), [7])
    late.keep(np.array([[7, 2, 2]], np.int32), np.ones(1), [7])
    rows = told(late, [7])
    assert len(rows) == MOST and rows[-1] == ([2, 2], 0) and rows[0] == ([1, 1], 0)


def test_a_new_text_forgets_them() -> None:
    late = Late(3)
    late.begin([7])
    late.keep(np.array([[7, 2, 2]], np.int32), np.ones(1), [7])
    late.begin([7])
    assert told(late, [7]) == []


class SlowStore(MemoryStore):
    """Answers when it is let."""

    let: Event
    begun: Event

    def search(self, *arguments: Any) -> Hits:
        self.begun.set()
        assert self.let.wait(10)
        return super().search(*arguments)


@pytest.fixture
def ahead() -> tuple[Ahead, SlowStore]:
    store = SlowStore(example_manifest())
    store.let, store.begun = Event(), Event()
    store.write(example_rows(200, vocabulary=3))
    dense = Dense(store, example_projection(), neighbours=20)
    return Ahead(dense), store


def test_a_search_is_not_waited_for_and_its_hits_are_told_later(ahead: tuple[Ahead, SlowStore]) -> None:
    source, store = ahead
    hidden = torch.randn(source.dense.projection.hidden_size)
    table, text = Table(), [1, 2]
    source.begin(text)
    source.tell(Context(text, hidden, 16, DEPTH), table)
    assert store.begun.wait(10) and table.size == 0
    hits = MemoryStore.search(store, source.dense.projection.query(hidden), np.array([2]), 20).continuations[0]
    text.append(int(hits[0, 1]))
    source.tell(Context(text, None, 16, DEPTH), table)
    assert table.size == 0, "the search has not ended"
    store.let.set()
    assert source.searching is not None and source.searching.result(10)
    source.tell(Context(text, None, 16, DEPTH), table)
    right = [row[2:][row[2:] >= 0].tolist() for row in hits if row[:2].tolist() == text[1:] and row[2] >= 0]
    assert right and [row for row, _ in read(table)] == right


class Deferred(Executor):
    """Begins what it is given when it is told to."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.future: Future[Any] = Future()
        self.begin = lambda: self.future.set_result(fn(*args, **kwargs))
        return self.future


def test_a_search_that_begins_late_is_for_the_text_as_it_was_asked() -> None:
    store, searcher, text = MemoryStore(example_manifest()), Deferred(), [1, 2]
    store.write(example_rows(200, vocabulary=3))
    source = Ahead(Dense(store, example_projection(), neighbours=20), searcher)
    source.begin(text)
    source.tell(Context(text, torch.randn(source.dense.projection.hidden_size), 16, DEPTH), Table())
    text.append(0)
    searcher.begin()
    assert (searcher.future.result().continuations[0, :, 0] == 2).all()


def test_hits_for_another_text_are_dropped(ahead: tuple[Ahead, SlowStore]) -> None:
    source, store = ahead
    table, hidden = Table(), torch.randn(source.dense.projection.hidden_size)
    source.tell(Context([1, 2], hidden, 16, DEPTH), table)
    asked = source.searching
    source.begin([2])
    store.let.set()
    assert asked is not None and asked.result(10)
    source.tell(Context([2], None, 16, DEPTH), table)
    assert table.size == 0


def test_a_server_is_asked_in_the_background_and_a_store_in_memory_at_every_step() -> None:
    store = MemoryStore(example_manifest())
    for asked, kind in ((Guarded(cast(RemoteStore, store)), Ahead), (store, Dense)):
        drafter = make_drafter("hybrid", Sources(Retrieval(asked, example_projection(), "filter")))
        assert isinstance(drafter, Hybrid) and isinstance(drafter.sources[0], kind)

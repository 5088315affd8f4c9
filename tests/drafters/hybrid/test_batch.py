"""Several texts drafted at a time get the drafts that each of them gets alone."""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.hybrid import BatchHybrid, Proposal
from dresd_milvus.drafters.hybrid.dense_sources import BackgroundSearch, DenseSource
from dresd_milvus.drafters.hybrid.evidence import Evidence, Session, Source
from dresd_milvus.drafters.hybrid.matches import Matches
from dresd_milvus.drafters.hybrid.recycling import SUCCESSORS, Recycling
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.suffix_store import SuffixStore
from tests.oracle import example_manifest, example_replica, example_rows

DIM, VOCABULARY, PROMPT = 8, 5, 3

Tree = tuple[list[int], list[int], list[float]]
"""(tokens, parents, reach)"""


class AtOnce(Executor):
    """Does everything at once, so that the hits of every search come at the next step."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@cache
def dense() -> Dense:
    """Its projection changes nothing but the length of states, and rounds alike in batches of all sizes."""
    projection = Projection(torch.eye(DIM), torch.zeros(DIM), torch.full((DIM,), 1 / DIM), samples=0)
    manifest = example_manifest(DIM, rows=200, projection=projection.fingerprint)
    return Dense(example_replica(example_rows(200, DIM, vocabulary=VOCABULARY), manifest), projection, 20)


@cache
def matches() -> Matches:
    random = np.random.default_rng(4)
    texts = [random.integers(0, VOCABULARY, random.integers(1, 12)).astype(np.int32) for _ in range(40)]
    return Matches(SuffixStore.build(Path(tempfile.mkdtemp()) / "suffixes", texts))


SOURCES: dict[str, Callable[[], list[Source]]] = {
    "search": lambda: [matches(), DenseSource(dense())],
    "background": lambda: [matches(), BackgroundSearch(dense(), AtOnce())],
}


def state(text: int, position: int) -> torch.Tensor:
    """Whole numbers, of which sums are exact."""
    return torch.from_numpy(np.random.default_rng((text, position)).integers(-9, 9, DIM).astype(np.float32))


class Texts:
    """Texts that go on token by token, and a batch drafter for them."""

    def __init__(self, sources: str, texts: Sequence[list[int]]) -> None:
        self.batch, self.texts = BatchHybrid(SOURCES[sources](), Recycling()), texts
        self.sessions, self.lengths = [Session() for _ in texts], [PROMPT for _ in texts]

    def drafts(self, rounds: Sequence[Sequence[int]], together: bool, learn: bool) -> list[list[Tree]]:
        """The trees of every text. rounds: how many tokens come in each text; one where none comes is not drafted for.
        together: whether all texts of a round are drafted for in one call."""
        found: list[list[Tree]] = [[] for _ in self.texts]
        for coming in rounds:
            taking = [text for text, count in enumerate(coming[: len(self.texts)]) if count]
            calls = [taking] if together else [[text] for text in taking]
            grown = [self.grow(call) for call in calls]
            for call, trees in zip(calls, grown, strict=True):
                for text, (tree, _) in zip(call, trees, strict=True):
                    found[text].append((tree.tokens.tolist(), tree.parents.tolist(), tree.reach.tolist()))
                new = [self.come(text, coming[text], learn) for text in call]
                if learn:
                    self.batch.learn(trees, new)
        return found

    def grow(self, texts: list[int]) -> list[Proposal]:
        contexts = [
            Context(self.texts[text][: self.lengths[text]], state(text, self.lengths[text]), 12, 4) for text in texts
        ]
        return self.batch.grow(contexts, [self.sessions[text] for text in texts])

    def come(self, text: int, count: int, learn: bool) -> np.ndarray:
        """The tokens that come in a text, whose logits are remembered."""
        begin, self.lengths[text] = self.lengths[text], self.lengths[text] + count
        if learn and self.batch.recycling:
            logits = torch.randn(count, SUCCESSORS, generator=torch.Generator().manual_seed(begin))
            told = np.array(self.texts[text][begin - 1 : begin + count - 1], np.int32)
            self.batch.recycling.remember(Scored(logits, logits), told, np.arange(count))
        return np.array(self.texts[text][begin : begin + count])


TEXTS = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=24, max_size=24), min_size=1, max_size=4)
ROUNDS = st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=6)


@pytest.mark.parametrize("sources", SOURCES)
@given(texts=TEXTS, rounds=ROUNDS)
def test_texts_share_what_is_learned_and_nothing_else(
    sources: str, texts: list[list[int]], rounds: list[list[int]]
) -> None:
    """One after the other, learning in the same order, they get the drafts of a batch."""
    together, apart = (Texts(sources, texts).drafts(rounds, way, learn=True) for way in (True, False))
    assert together == apart


@pytest.mark.parametrize("sources", SOURCES)
@given(texts=TEXTS, rounds=ROUNDS)
def test_other_texts_change_no_draft_where_nothing_is_learned(
    sources: str, texts: list[list[int]], rounds: list[list[int]]
) -> None:
    together = Texts(sources, texts).drafts(rounds, together=True, learn=False)
    for number, trees in enumerate(together):
        alone = [[count if text == number else 0 for text, count in enumerate(coming)] for coming in rounds]
        assert Texts(sources, texts).drafts(alone, together=True, learn=False)[number] == trees


def test_a_batch_is_searched_for_at_once() -> None:
    """A text that has no state yet is left out."""
    asked, store = list[int](), dense().store

    class Counted:
        manifest = store.manifest

        def search(self, queries: np.ndarray, *others: Any) -> Any:
            asked.append(len(queries))
            return store.search(queries, *others)

    source = DenseSource(Dense(Counted(), dense().projection, 20))
    contexts = [Context([0, root], None if root == 1 else state(root, 2), 12, 4) for root in range(VOCABULARY)]
    found = source.propose(contexts, [Session() for _ in contexts])
    assert asked == [VOCABULARY - 1] and found[1] == []
    for context, parts in zip(contexts, found, strict=True):
        [alone] = source.propose([context], [Session()])
        assert all(map(np.array_equal, Evidence.join(alone), Evidence.join(parts)))

"""A text is drafted from the rows of its own corpus: whatever texts came before, and whatever shares its batch."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.hybrid import BatchHybrid, Session, Source
from dresd_milvus.drafters.hybrid.corpora import ByCorpus
from dresd_milvus.drafters.hybrid.dense_sources import BackgroundSearch, DenseSource
from dresd_milvus.drafters.hybrid.matches import Matches
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.suffix_store import SuffixStore
from tests.drafters.hybrid.test_batch import AtOnce
from tests.oracle import example_manifest, example_projection, example_rows

CORPORA = ("one", "two", "three")
SHARED = range(4)
"""Tokens of texts. After them, each corpus goes on with tokens that no other has: 100 times its number and more."""


def own(corpus: str | None) -> set[int]:
    """The tokens that only a corpus has."""
    return (
        set(range(100 * (1 + CORPORA.index(corpus)), 100 * (2 + CORPORA.index(corpus)))) if corpus in CORPORA else set()
    )


@cache
def stores() -> tuple[Replica, SuffixStore]:
    """60 rows and 20 documents of each corpus, mixed."""
    batches, texts, origins = [], [], []
    random = np.random.default_rng(0)
    for number, corpus in enumerate(CORPORA):
        rows = example_rows(60, vocabulary=len(SHARED), seed=number)
        rows.next_tokens[:, 1:] = random.integers(100 * (number + 1), 100 * (number + 2), (60, 4))
        batches.append(replace(rows, pk=rows.pk + (number << 50), origin=corpus))
    for at in range(60):
        number = at % 3
        random_tokens = random.integers(100 * (number + 1), 100 * (number + 2), 5)
        texts.append(np.concatenate((random.integers(0, len(SHARED), 3), random_tokens)).astype(np.int32))
        origins.append(CORPORA[number])
    replica = Replica.build(example_manifest(rows=180), iter(batches), Path(mkdtemp()) / "replica")
    return replica, SuffixStore.build(Path(mkdtemp()) / "suffixes", texts, origins)


def sources(corpus: str, background: bool) -> list[Source]:
    replica, suffixes = stores()
    dense = Dense(replica.of_origin(corpus), example_projection(), 10)
    found = BackgroundSearch(dense, AtOnce()) if background else DenseSource(dense)
    return [Matches(suffixes.of_origin(corpus)), found]


STEPS = st.tuples(st.integers(0, 5), st.integers(0, 3), st.booleans())
"""(text, its next token, whether the text has ended and another takes its place)"""


@settings(max_examples=60, deadline=None)
@given(
    background=st.booleans(),
    steps=st.lists(
        st.lists(STEPS, min_size=1, max_size=6, unique_by=lambda step: step[0]),
        min_size=1, max_size=8,
    ),
    corpora=st.lists(st.sampled_from([*CORPORA, "unknown"]), min_size=6, max_size=6),
)  # fmt: skip
def test_no_token_of_another_corpus_is_drafted(
    background: bool, steps: list[list[tuple[int, int, bool]]], corpora: list[str]
) -> None:
    """Six texts in random interleavings; some take over the place of one that has ended, with another corpus."""
    hybrid = BatchHybrid([ByCorpus({corpus: sources(corpus, background) for corpus in CORPORA}, [Matches(None)])])
    texts, sessions = [[0, 1] for _ in corpora], [Session(corpus=corpus) for corpus in corpora]
    generator = torch.Generator().manual_seed(len(steps))
    for step in steps:
        for at, token, ends in step:
            texts[at] = [0, token] if ends else [*texts[at], token]
            if ends:
                sessions[at] = Session(corpus=corpora[(at + token) % 6])
        asked = [at for at, _, _ in step]
        states = torch.randn(len(asked), 12, generator=generator)
        grown = hybrid.grow(
            [Context(texts[at], states, 16, 4, row) for row, at in enumerate(asked)], [sessions[at] for at in asked]
        )
        for at, proposal in zip(asked, grown, strict=True):
            assert set(proposal.grown.tokens.tolist()) <= set(SHARED) | own(sessions[at].corpus)
        hybrid.learn(grown, [np.array([0]) for _ in grown])


def test_each_corpus_is_drafted_from() -> None:
    """So that the test above does not pass for want of drafts."""
    hybrid = BatchHybrid([ByCorpus({corpus: sources(corpus, False) for corpus in CORPORA}, [Matches(None)])])
    contexts = [Context([0, 1], torch.randn(1, 12), 16, 4, 0) for _ in CORPORA]
    for corpus, proposal in zip(CORPORA, hybrid.grow(contexts, [Session(corpus=c) for c in CORPORA]), strict=True):
        assert set(proposal.grown.tokens.tolist()) & own(corpus)

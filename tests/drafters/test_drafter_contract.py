"""What every drafter promises, whatever it is given."""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.decoding.protocols import Context, Drafter, Step
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.step_costs import StepCosts
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.hybrid import Hybrid
from dresd_milvus.drafters.hybrid.budget import AdaptiveBudget
from dresd_milvus.drafters.hybrid.dense_sources import BackgroundSearch, DenseSource
from dresd_milvus.drafters.hybrid.matches import Matches
from dresd_milvus.drafters.hybrid.mixer import Mixer
from dresd_milvus.drafters.hybrid.recycling import Recycling
from dresd_milvus.drafters.prompt_lookup import PromptLookup
from dresd_milvus.drafters.rest import Rest
from dresd_milvus.drafters.small_lm import SmallLM
from dresd_milvus.drafters.suffix import Suffix
from dresd_milvus.errors import MismatchError
from dresd_milvus.retrieval.store import PAD, Hits, Rows
from dresd_milvus.retrieval.suffix_store import SuffixStore
from dresd_milvus.target.hf_target import HFTarget
from tests.conftest import build_tiny
from tests.oracle import MemoryStore, example_manifest, example_projection, example_replica, example_rows

VOCABULARY = 6


class ForgetfulStore(MemoryStore):
    """A server that ignores the filter, as an approximate index may."""

    def search(self, queries: np.ndarray, next_tokens: np.ndarray | None, k: int) -> Hits:
        return super().search(queries, None, k)


def dense(kind: type[MemoryStore] = MemoryStore, rows: int = 200) -> Dense:
    store = kind(example_manifest())
    store.write(example_rows(rows, vocabulary=VOCABULARY))
    return Dense(store, example_projection(), neighbours=20)


def dense_replica(rows: int = 200) -> Dense:
    manifest = example_manifest(rows=rows)
    return Dense(example_replica(example_rows(rows, vocabulary=VOCABULARY), manifest), example_projection(), 20)


@cache
def suffixes(documents: int = 40) -> SuffixStore:
    """A corpus of short random texts."""
    random = np.random.default_rng(4)
    texts = [random.integers(0, VOCABULARY, random.integers(1, 12)).astype(np.int32) for _ in range(documents)]
    return SuffixStore.build(Path(tempfile.mkdtemp()) / "suffixes", texts)


@cache
def small() -> HFTarget:
    return build_tiny(seed=1)


MAKERS: dict[str, Callable[[], Drafter]] = {
    "rest": lambda: Rest(suffixes()),
    "suffix": lambda: Suffix(suffixes()),
    "suffix-text-alone": lambda: Suffix(None),
    "small_lm": lambda: SmallLM(small()),
    "hybrid": lambda: Hybrid([DenseSource(dense()), Matches(suffixes())], Recycling()),
    "hybrid-replica": lambda: Hybrid([DenseSource(dense_replica()), Matches(suffixes())], Recycling()),
    "hybrid-empty-replica": lambda: Hybrid([DenseSource(dense_replica(0))]),
    "hybrid-background": lambda: Hybrid([BackgroundSearch(dense()), Matches(suffixes())], Recycling()),
    "hybrid-adaptive": lambda: Hybrid(
        [DenseSource(dense()), Matches(suffixes())],
        Recycling(),
        adaptive=AdaptiveBudget(StepCosts({0: 1.0, 4: 1.1, 16: 2.0})),
    ),
    "hybrid-untaught": lambda: Hybrid([Matches(None)], Recycling(), mixer=Mixer.untaught()),
    "vanilla": Vanilla,
    "prompt_lookup": PromptLookup,
    "dense": dense,
    "dense-replica": dense_replica,
    "dense-unfiltered": lambda: dense(ForgetfulStore),
    "dense-empty": lambda: dense(rows=0),
}


@pytest.mark.parametrize("name", MAKERS)
@given(
    prompt=st.lists(st.integers(0, VOCABULARY + 1), min_size=1, max_size=20),
    nodes=st.integers(0, 20),
    depth=st.integers(0, 8),
    seed=st.integers(0, 9) | st.none(),
)
def test_a_draft_keeps_to_its_root_and_budget(
    name: str, prompt: list[int], nodes: int, depth: int, seed: int | None
) -> None:
    drafter = MAKERS[name]()
    hidden = None if seed is None else torch.randn(12, generator=torch.Generator().manual_seed(seed))
    drafter.begin(prompt)
    tokens = list(prompt)
    for _ in range(3):
        tree = drafter.draft(Context(tokens, hidden, nodes, depth))
        assert tree.tokens[0] == tokens[-1] and len(tree) <= nodes and tree.depths().max() <= depth
        assert (tree.tokens >= 0).all()
        tokens = [*tokens, (tokens[-1] + 1) % VOCABULARY]
        scored = Scored(torch.zeros(len(tree.tokens), VOCABULARY), torch.zeros(len(tree.tokens), 12))
        drafter.observe(Step(tokens, np.array(tokens[-1:]), tree, np.array([0]), scored))


def test_a_text_leaves_nothing_behind_for_the_next() -> None:
    drafter = PromptLookup()
    drafter.begin([1, 2, 3, 1, 2, 3, 1])
    drafter.begin([1, 2])
    assert len(drafter.draft(Context([1, 2], None, 8, 8))) == 0


def test_dense_follows_the_nearest_rows() -> None:
    """Two groups of rows with one first token: the query lies in one of them, and so does the draft."""
    projection, store = example_projection(), MemoryStore(example_manifest())
    near, far = torch.randn(2, 12, generator=torch.Generator().manual_seed(5))
    keys = projection(torch.stack([near] * 3 + [far] * 3)).numpy()
    near_tokens, far_tokens = [1, 2, 3, PAD, PAD], [1, 4, 5, 0, 0]
    store.write(Rows(np.arange(6), keys, np.array([near_tokens] * 3 + [far_tokens] * 3, np.int32)))
    drafter = Dense(store, projection)
    tree = drafter.draft(Context([0, 1], near, 2, 8))
    assert tree.tokens.tolist() == [1, 2, 3] and tree.parents.tolist() == [-1, 0, 1]
    assert drafter.draft(Context([0, 1], far, 4, 3)).tokens.tolist()[:4] == [1, 4, 5, 0]
    assert len(drafter.draft(Context([0, 9], near, 4, 3))) == 0


def test_a_store_of_another_projection_is_refused() -> None:
    with pytest.raises(MismatchError, match="projection"):
        Dense(MemoryStore(example_manifest()), example_projection(seed=3))

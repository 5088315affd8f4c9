"""What every drafter promises, whatever it is given: the rules of `Drafter` (decoding/protocols.py), exact texts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache, partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.protocols import Context, Drafter, Step
from dresd_milvus.decoding.sampling import Greedy, GumbelSampler, Sampler
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.step_costs import StepCosts
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.hybrid import Hybrid
from dresd_milvus.drafters.hybrid.budget import AdaptiveBudget
from dresd_milvus.drafters.hybrid.dense_sources import BackgroundSearch, DenseSource
from dresd_milvus.drafters.hybrid.matches import Matches
from dresd_milvus.drafters.hybrid.mixer import Mixer
from dresd_milvus.drafters.hybrid.recycling import Recycling
from dresd_milvus.drafters.rest import Rest
from dresd_milvus.drafters.suffix import Suffix
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.store import Hits, Rows
from dresd_milvus.retrieval.suffix_store import SuffixStore
from dresd_milvus.storage.opening import Retrieval
from dresd_milvus.systems.factory import make_drafter
from dresd_milvus.systems.registry import HYBRID, SYSTEMS
from dresd_milvus.systems.sources import Sources
from dresd_milvus.target.hf_target import HFTarget
from ingestion.phases.embed import continuations
from tests.conftest import TINY, build_tiny
from tests.decoding.trees import climb
from tests.oracle import MemoryStore, example_manifest, example_projection, example_replica, example_rows

VOCABULARY = 12
"""Tokens that there are. Few, so that texts repeat themselves."""

WRITTEN = 10
"""Tokens that the model scores in the tests without one: the others it reads and never writes."""

LENGTH = 24
"""Tokens of a text."""

PROJECTION = example_projection(hidden=TINY.hidden_size)
MANIFEST = partial(example_manifest, projection=PROJECTION.fingerprint)

TEXTS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=20)


class ForgetfulStore(MemoryStore):
    """A server that ignores the filter, as an approximate index may."""

    def search(self, queries: np.ndarray, next_tokens: np.ndarray | None, k: int) -> Hits:
        return super().search(queries, None, k)


@cache
def target() -> HFTarget:
    return build_tiny(vocabulary=VOCABULARY)


@cache
def plain(prompt: tuple[int, ...], sampler: Sampler) -> list[int]:
    """What the target writes without drafts."""
    return generate(target(), Vanilla(), sampler, prompt, LENGTH, FixedBudget(0, 0)).tokens


@cache
def texts() -> list[list[int]]:
    """The target's own, so that some drafts come true."""
    return [[first, *plain((first,), Greedy())] for first in range(VOCABULARY)]


@cache
def rows() -> Rows:
    """Of the target's own texts, and random ones."""
    random, keys, following = example_rows(200, vocabulary=VOCABULARY), [], []
    for text in texts():
        ids = torch.tensor([text[:-1]])
        keys.append(PROJECTION(target().embed(ids, torch.ones_like(ids))[0]).numpy())
        following.append(continuations(np.array(text, np.int32), 5))
    own = np.arange(sum(map(len, keys)), dtype=np.int64)
    joined = (np.concatenate(parts) for parts in ([own, random.pk], [*keys, random.vectors]))
    return Rows(*joined, np.concatenate([*following, random.next_tokens]))


@cache
def store(kind: type[MemoryStore] = MemoryStore) -> MemoryStore:
    made = kind(MANIFEST())
    made.write(rows())
    return made


@cache
def replica() -> Replica:
    return example_replica(rows(), MANIFEST(rows=len(rows())))


@cache
def suffixes() -> SuffixStore:
    """Of the target's own texts, and random ones of any length."""
    random = np.random.default_rng(4)
    others = [random.integers(0, VOCABULARY, random.integers(1, 12)) for _ in range(40)]
    corpus = [np.array(text, np.int32) for text in (*texts(), *others)]
    return SuffixStore.build(Path(tempfile.mkdtemp()) / "suffixes", corpus)


@cache
def sources() -> Sources:
    small = build_tiny(seed=1, vocabulary=VOCABULARY)
    return Sources(Retrieval(replica(), PROJECTION, "replica"), suffixes(), small)


def dense(searched: MemoryStore | Replica) -> Dense:
    return Dense(searched, PROJECTION, neighbours=20)


def nothing() -> Dense:
    return dense(MemoryStore(MANIFEST()))


def named(system: str) -> Drafter:
    return make_drafter(system, sources())


VARIANTS = ["-no-".join(["hybrid", *parts]) for size in (1, 2) for parts in combinations(HYBRID, size)]
"""Hybrid without one or two of its parts."""

MAKERS: dict[str, Callable[[], Drafter]] = {
    **{name: partial(named, name) for name in (*SYSTEMS, *VARIANTS)},
    "rest-one-token": lambda: Rest(SuffixStore.build(Path(tempfile.mkdtemp()) / "s", [np.array([3], np.int32)])),
    "suffix-text-alone": lambda: Suffix(None),
    "dense-memory": lambda: dense(store()),
    "dense-unfiltered": lambda: dense(store(ForgetfulStore)),
    "dense-empty": nothing,
    "hybrid-memory": lambda: Hybrid([DenseSource(dense(store())), Matches(suffixes())], Recycling()),
    "hybrid-empty": lambda: Hybrid([DenseSource(nothing())]),
    "hybrid-background": lambda: Hybrid([BackgroundSearch(dense(store())), Matches(suffixes())], Recycling()),
    "hybrid-background-empty": lambda: Hybrid([BackgroundSearch(nothing())]),
    "hybrid-adaptive": lambda: make_drafter("hybrid", sources(), costs=StepCosts({0: 1.0, 4: 1.1, 16: 2.0})),
    "hybrid-adaptive-too-dear": lambda: Hybrid(
        [Matches(suffixes())], adaptive=AdaptiveBudget(StepCosts({0: 1.0, 4: 1000.0}))
    ),
    "hybrid-untaught": lambda: Hybrid([Matches(None)], Recycling(), mixer=Mixer.untaught()),
}

SILENT = {
    "vanilla", "rest-one-token", "dense-empty", "hybrid-empty", "hybrid-background-empty", "hybrid-adaptive-too-dear"
}  # fmt: skip
"""Those that have nothing to draft, or never should."""


def drafted(drafter: Drafter, context: Context) -> DraftTree:
    """A draft, and all that is promised of one."""
    tokens, states = list(context.tokens), None if context.states is None else context.states.clone()
    tree = drafter.draft(context)
    assert tree.tokens.dtype == tree.parents.dtype == np.int32 and tree.source == drafter.name
    assert (tree.tokens[0], tree.parents[0]) == (tokens[-1], -1)
    nodes = list(zip(tree.parents.tolist(), tree.tokens.tolist(), strict=True))
    assert all(0 <= parent < node for node, (parent, _) in enumerate(nodes) if node)
    assert len(set(nodes)) == len(nodes), "siblings differ"
    assert all(0 <= token < VOCABULARY for _, token in nodes)
    assert len(tree) <= context.max_nodes and tree.depths().max() <= context.max_depth
    assert context.tokens == tokens and (states is None or torch.equal(states, context.states)), "they are the loop's"
    return tree


def state_of(seed: int | None) -> torch.Tensor | None:
    return None if seed is None else torch.randn(TINY.hidden_size, generator=torch.Generator().manual_seed(seed))


def scored(nodes: int, seed: int) -> Scored:
    generator = torch.Generator().manual_seed(seed)
    return Scored(torch.randn(nodes, WRITTEN, generator=generator), torch.zeros(nodes, TINY.hidden_size))


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=40)
@given(
    prompt=TEXTS, nodes=st.integers(0, 20), depth=st.integers(0, 8), seed=st.integers(0, 9) | st.none(),
    accepted=st.booleans(),
)  # fmt: skip
def test_a_draft_keeps_the_rules(
    name: str, prompt: list[int], nodes: int, depth: int, seed: int | None, accepted: bool
) -> None:
    """Whatever the text, with a state or without one, and whatever became of the draft before."""
    drafter, tokens = MAKERS[name](), list(prompt)
    drafter.begin(prompt)
    for step in range(3):
        tree = drafted(drafter, Context(tokens, state_of(seed), nodes, depth))
        path = climb(tree, len(tree) if accepted else 0)
        new = [*tree.tokens[path[1:]].tolist(), (tokens[-1] + 1) % VOCABULARY]
        tokens = [*tokens, *new]
        drafter.observe(Step(tokens, np.array(new), tree, np.array(path), scored(len(tree.tokens), step)))


def followed(drafter: Drafter, text: list[int], seed: int | None) -> list[tuple[list[int], list[int]]]:
    """The drafts at every other position of a text, of which the drafter is told in chains of two tokens."""
    drafts = []
    drafter.begin(text[:1])
    for size in range(1, len(text) - 1, 2):
        tree = drafted(drafter, Context(text[:size], state_of(seed), 8, 4))
        drafts.append((tree.tokens.tolist(), tree.parents.tolist()))
        chain = DraftTree(np.array(text[size - 1 : size + 1], np.int32), np.array([-1, 0], np.int32))
        new = np.array(text[size : size + 2])
        drafter.observe(Step(text[: size + 2], new, chain, np.arange(2), scored(2, size)))
    return drafts


@pytest.mark.parametrize("name", [name for name in MAKERS if not name.startswith("hybrid")])
@settings(max_examples=20)
@given(earlier=TEXTS, text=TEXTS, seed=st.integers(0, 9) | st.none())
def test_a_text_leaves_nothing_behind_for_the_next(
    name: str, earlier: list[int], text: list[int], seed: int | None
) -> None:
    """But for hybrid, which keeps what it learned. The steps are of other trees than the drafted, as in measuring."""
    used = MAKERS[name]()
    followed(used, earlier, seed)
    assert followed(used, text, seed) == followed(MAKERS[name](), text, seed)


@pytest.mark.parametrize("sampler", [Greedy(), GumbelSampler(0.8, 0.95, 3)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("name", MAKERS)
def test_texts_are_the_targets_own(name: str, sampler: Sampler) -> None:
    """In float64, with one drafter from text to text, and with drafts of which some come true."""
    drafter, steps, tokens = MAKERS[name](), 0, 0
    for prompt in ((3,), (1, 7, 2, 1, 7), tuple(texts()[5][:9])):
        for budget in (FixedBudget(8, 4), FixedBudget(24, 8)):
            done = generate(target(), drafter, sampler, prompt, LENGTH, budget)
            assert done.tokens == plain(prompt, sampler)
            steps, tokens = steps + len(done.steps), tokens + len(done.tokens)
    assert (tokens > steps) == (name not in SILENT)

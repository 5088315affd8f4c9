"""What drafting for several texts at a time costs: milliseconds of a step by part, by the number of texts.

Everything of a step but the model's forward pass, on one core, with caches that other memory has gone through as the
model's weights do. Texts, corpus and store are made of the same random phrases, so that matches and neighbours are
found as in text that repeats itself; states, logits and vocabulary have the sizes of SmolLM2-135M. projection: of all
states, and their copy to the host. search: of the replica. sources: all else until the evidence is there. growing:
mixer and trees. chains: the likeliest path of each tree. learning: the mixer's. picks: the target's own tokens along a
chain, greedy. recycling: what is kept of the target's logits. drafting: all but picks and recycling. step: the sum.
Medians over steps; sizes take turns, and drafting and step have a 95 % interval.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from common import alternate, arguments
from numpy.typing import NDArray

from dresd_milvus.decoding.protocols import Context
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.drafters.hybrid import BatchHybrid, Session
from dresd_milvus.drafters.hybrid.dense_sources import DenseSource
from dresd_milvus.drafters.hybrid.matches import Matches
from dresd_milvus.drafters.hybrid.recycling import Recycling
from dresd_milvus.drafters.hybrid.tree_builder import Grown, likeliest_chain
from dresd_milvus.retrieval.projection import Projection
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.store import Manifest, Rows
from dresd_milvus.retrieval.suffix_store import SuffixStore
from evaluation.reporting.bootstrap import interval
from evaluation.running.provenance import git_commit, processor
from ingestion.phases.embed import continuations

PARTS = ("projection", "search", "sources", "growing", "chains", "learning", "picks", "recycling")
DRAFTING = 6
"""The first of the parts are drafting."""

VOCABULARY, HIDDEN, DIM, CONTINUATION = 49_152, 576, 64, 20
PHRASES, LENGTHS = 3_000, (2, 9)
TEXTS, PROMPT, TEXT = 64, 200, 500
NODES, DEPTH = 16, 6
WARM_UP = 20
LIKELIEST = 20
"""Higher than random logits."""

EVICTED = 64 << 20
"""Bytes that go through the caches before a step."""


class Clock:
    """Adds up the seconds that parts of a step take; what a part spends in another counts for that one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        before, begun = sum(self.seconds.values()), perf_counter()
        yield
        self.seconds[name] += perf_counter() - begun - (sum(self.seconds.values()) - before)

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Count an object's method as a part of the step."""
        called: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any) -> Any:
            with self.part(name):
                return called(*arguments)

        setattr(owner, method, timed)


class Made(NamedTuple):
    """A random text: tokens int64 [T], and the key of the state that produces each of them, float32 [T, d]."""

    tokens: NDArray[np.int64]
    keys: NDArray[np.float32]


class Phrases:
    """Makes texts of phrases, some of which are common. The states before a phrase's tokens are much the same
    everywhere."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        common = 1 / np.arange(1, VOCABULARY + 1)
        lengths = self.random.integers(*LENGTHS, PHRASES)
        tokens = self.random.choice(VOCABULARY, int(lengths.sum()), p=common / common.sum())
        states = self.random.normal(size=(len(tokens), DIM))
        edges = np.cumsum(lengths)[:-1]
        self.phrases = list(zip(np.split(tokens, edges), np.split(states, edges), strict=True))
        self.often = common[:PHRASES] / common[:PHRASES].sum()

    def text(self, size: int) -> Made:
        """At least `size` tokens."""
        drawn = [self.phrases[n] for n in self.random.choice(PHRASES, size // LENGTHS[0], p=self.often)]
        tokens, states = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        states = states[:size] + self.random.normal(0, 0.5, (min(size, len(states)), DIM))
        return Made(tokens[:size], (states / np.linalg.norm(states, axis=1, keepdims=True)).astype(np.float32))


def dense(corpus: Made, folder: Path) -> Dense:
    """A replica of the corpus, and a projection that finds its keys in states (see `Batch.context`)."""
    projection = Projection(axes(), torch.zeros(DIM), torch.full((DIM,), 1 / DIM), samples=0)
    following = continuations(corpus.tokens.astype(np.int32), CONTINUATION)
    manifest = Manifest("", "", "", projection.fingerprint, DIM, CONTINUATION, None, "random", rows=len(following))
    rows = Rows(np.arange(len(following)), corpus.keys[1:], following)
    return Dense(Replica.build(manifest, iter([rows]), folder / "replica"), projection)


def axes() -> torch.Tensor:
    """float32 [d, H], orthonormal."""
    return torch.linalg.qr(torch.randn(HIDDEN, DIM, generator=torch.Generator().manual_seed(0)))[0].T.contiguous()


class Batch:
    """Texts that are drafted for and verified together. logits: bfloat16 [B, DEPTH + 1, V], the target's, in which the
    texts' own tokens are made the likeliest."""

    def __init__(self, clock: Clock, made: list[Made], batch: BatchHybrid, logits: torch.Tensor) -> None:
        self.clock, self.made, self.batch, self.logits = clock, made, batch, logits
        self.axes, self.memory, self.tokens = axes(), np.ones(EVICTED, np.uint8), 0
        self.texts = [list[int]() for _ in made]
        self.sessions = [Session() for _ in made]

    def step(self) -> float:
        """Take a step; the milliseconds of all of it but the forward pass."""
        self.begin_texts()
        contexts = self.contexts()
        self.memory.sum()
        self.clock.seconds.clear()
        with self.clock.part("growing"):
            grown = self.batch.grow(contexts, self.sessions)
        with self.clock.part("chains"):
            chains = [chain(proposal.grown) for proposal in grown]
        scored = self.verify(chains)
        with self.clock.part("picks"):
            walks = [Greedy().walk(*of_text) for of_text in zip(chains, scored, self.texts, strict=True)]
        with self.clock.part("learning"):
            self.batch.learn(grown, [walk.picks for walk in walks])
        with self.clock.part("recycling"):
            for tree, said, walk in zip(chains, scored, walks, strict=True):
                self.batch.recycling.remember(said, tree.tokens, walk.path)
        for text, walk in zip(self.texts, walks, strict=True):
            text += walk.picks.tolist()
            self.tokens += len(walk.picks)
        return 1e3 * sum(self.clock.seconds.values())

    def begin_texts(self) -> None:
        """Begin those anew that have not begun or are at their end."""
        for number, text in enumerate(self.texts):
            if not text or len(text) + DEPTH >= TEXT:
                text[:], self.sessions[number] = self.made[number].tokens[:PROMPT].tolist(), Session()

    def contexts(self) -> list[Context]:
        keys = [made.keys[len(text) - 1] for made, text in zip(self.made, self.texts, strict=True)]
        states = torch.from_numpy(np.stack(keys)) @ self.axes
        return [Context(text, states, NODES, DEPTH, number) for number, text in enumerate(self.texts)]

    def verify(self, chains: list[DraftTree]) -> list[Scored]:
        """What the target says of the chains: its picks are the texts' own next tokens."""
        found = []
        for number, (tree, text) in enumerate(zip(chains, self.texts, strict=True)):
            logits = self.logits[number, : len(tree.tokens)]
            logits[logits > LIKELIEST] = 0
            coming = torch.from_numpy(self.made[number].tokens[len(text) : len(text) + len(logits)])
            logits[torch.arange(len(logits)), coming] = LIKELIEST + 1
            found.append(Scored(logits, logits[:, :1]))
        return found


def chain(tree: Grown) -> DraftTree:
    """The likeliest path as the draft to verify."""
    nodes = likeliest_chain(tree, DEPTH)
    return DraftTree(np.append(tree.tokens[:1], tree.tokens[nodes]), np.arange(-1, len(nodes), dtype=np.int32))


def main() -> None:
    options = arguments(__doc__ or "", repeats=200, rows=50_000)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        batches, clock = make_batches(options.rows, Path(folder))
        found: dict[int, list[list[float]]] = {size: [] for size in batches}
        for batch in batches.values():
            for _ in range(WARM_UP):
                batch.step()  # compiles, and learns what the texts are like

        def measure(size: int) -> float:
            taken = batches[size].step()
            found[size].append([1e3 * clock.seconds[part] for part in PARTS])
            return taken

        alternate({str(size): partial(measure, size) for size in batches}, options.repeats, warm_up=False)
        results = {size: summary(np.array(rows)) for size, rows in found.items()}
    mat = {size: batch.tokens / size / (options.repeats + WARM_UP) for size, batch in batches.items()}
    print(table(results))
    about = {"processor": processor(), "git": git_commit(), "rows": options.rows, "mat": mat, "steps": options.repeats}
    print(json.dumps(about))
    if options.out:
        options.out.write_text(json.dumps({**about, "results": results}, indent=2) + "\n")


def make_batches(rows: int, folder: Path) -> tuple[dict[int, Batch], Clock]:
    """Batches by their number of texts. They share store, corpus and clock, and learn each for itself."""
    phrases, clock = Phrases(), Clock()
    corpus = phrases.text(rows + 1)
    neighbours = dense(corpus, folder)
    matches = Matches(SuffixStore.build(folder / "suffixes", [corpus.tokens.astype(np.int32)]))
    source, made = DenseSource(neighbours), [phrases.text(TEXT) for _ in range(TEXTS)]
    clock.watch(neighbours, "queries", "projection")
    clock.watch(neighbours.store, "search", "search")
    clock.watch(source, "propose", "sources")
    clock.watch(matches, "propose", "sources")
    logits = torch.randn(TEXTS, DEPTH + 1, VOCABULARY, generator=torch.Generator().manual_seed(0)).bfloat16()
    return {
        size: Batch(clock, made[:size], BatchHybrid([matches, source], Recycling()), logits[:size])
        for size in (1, 16, TEXTS)
    }, clock


def summary(rows: NDArray[np.float64]) -> dict[str, Any]:
    """Medians of the parts, of drafting and of the step, from milliseconds [steps, PARTS]."""
    sums = {"drafting": rows[:, :DRAFTING].sum(1), "step": rows.sum(1)}
    intervals = {name: interval(lambda drawn: np.median(drawn, axis=1), values) for name, values in sums.items()}
    medians = {name: float(np.median(values)) for name, values in (*zip(PARTS, rows.T, strict=True), *sums.items())}
    return {**medians, "intervals": intervals}


def table(results: dict[int, dict[str, Any]]) -> str:
    """Markdown, a line for each number of texts."""
    heads = ("texts", *PARTS, "drafting [95 %]", "step [95 %]")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for size, made in results.items():
        whole = [f"{made[n]:.2f} [{low:.2f}, {high:.2f}]" for n, (low, high) in made["intervals"].items()]
        lines.append(f"| {size} | " + " | ".join((*(f"{made[part]:.2f}" for part in PARTS), *whole)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

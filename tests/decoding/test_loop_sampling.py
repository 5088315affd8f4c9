"""Speculative sampling follows the target's distribution; a sampler that draws per row does not, and is caught."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.sampling import GumbelSampler
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.drafters.base import Vanilla

VOCAB, LENGTH, DRAWS = 4, 3, 6000
TABLE = torch.from_numpy(np.random.default_rng(5).normal(0, 0.7, (VOCAB, VOCAB)))  # logits after each token


class MarkovTarget:
    """A target whose next token depends on the last one alone."""

    eos_ids: frozenset[int] = frozenset()
    vocab_size = hidden_size = VOCAB
    context = 64

    def prefill(self, tokens, reuse_prefix=False):
        return None

    def verify(self, tree):
        logits = TABLE[torch.from_numpy(tree.tokens).long()]
        return Scored(logits, logits)

    def commit(self, path):
        pass

    def context_left(self, prompt):
        return self.context - prompt


class TreeDrafter(Vanilla):
    """A fixed tree below every root: some tokens drafted, some not, branches of unlike depth."""

    PATHS = np.array([[0, 1, 2], [0, 2, 0], [1, 1, -1], [3, 0, 3]], np.int32)

    def draft(self, context):
        return DraftTree.from_paths(context.tokens[-1], self.PATHS, np.ones(4), context.max_nodes, context.max_depth)


def probabilities(temperature: float) -> np.ndarray:
    """The exact probability of each text of LENGTH tokens after token 0, from the table."""
    step = (TABLE / temperature).softmax(-1).numpy()
    return np.einsum("a,ab,bc->abc", step[0], step, step).ravel()


def counted(texts) -> np.ndarray:
    places = VOCAB ** np.arange(LENGTH)[::-1]
    return np.bincount([int(np.dot(text, places)) for text in texts], minlength=VOCAB**LENGTH)


def per_row(random: np.random.Generator) -> list[int]:
    """Decoding that is not lossless: each drafted row draws its own sample, and the longest match wins."""
    text = [0]
    while len(text) <= LENGTH:
        best: list[int] = []
        for row in TreeDrafter.PATHS:
            last, emitted = text[-1], []
            for drafted in [*row[row >= 0].tolist(), -1]:
                emitted.append(int(random.choice(VOCAB, p=TABLE[last].softmax(-1).numpy())))
                last = emitted[-1]
                if last != drafted:
                    break
            best = max(best, emitted, key=len)
        text += best
    return text[1 : LENGTH + 1]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_tokens_from_a_tree_follow_the_targets_distribution(temperature):
    results = [
        generate(MarkovTarget(), TreeDrafter(), GumbelSampler(temperature, seed=seed), [0], LENGTH, FixedBudget(16, 4))
        for seed in range(DRAWS)
    ]
    assert np.mean([result.mat for result in results]) > 1.5, "the tree must matter"
    counts = counted([result.tokens for result in results])
    assert chisquare(counts, DRAWS * probabilities(temperature)).pvalue > 1e-3


def test_a_sampler_that_draws_per_row_fails_the_same_test():
    random = np.random.default_rng(0)
    counts = counted([per_row(random) for _ in range(DRAWS)])
    assert chisquare(counts, DRAWS * probabilities(1.0)).pvalue < 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_the_tree_changes_no_token_of_a_seed(seed):
    budget = FixedBudget(16, 4)
    for sampler in (
        GumbelSampler(1.3, 0.9, seed),
        GumbelSampler(1.3, 1.0, seed, top_k=3, min_p=0.1, repetition_penalty=1.2),
    ):
        drafted, plain = (
            generate(MarkovTarget(), drafter, sampler, [0], 50, budget) for drafter in (TreeDrafter(), Vanilla())
        )
        assert drafted.tokens == plain.tokens and len(drafted.steps) < len(plain.steps)

"""Exactness: with every drafter, text and cache are those of plain decoding, token for token.

The reference does not use the package: it is a forward pass over the whole text for every token, in float64.
"""

from __future__ import annotations

from functools import cache
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dresd_milvus.decoding.loop import FixedBudget, generate, warm_up
from dresd_milvus.decoding.protocols import Context
from dresd_milvus.decoding.sampling import Greedy, GumbelSampler
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.prompt_lookup import PromptLookup
from dresd_milvus.errors import InputError
from tests.drafters.wild_drafters import WILD, Oracle, Overlong, RandomTree, Siblings, WildDrafter
from tests.target.test_hf_target import assert_scored

VOCAB = 64
BEYOND = 12  # tokens of the right text that a drafter knows beyond its end
LONGEST = 60 + BEYOND
GREEDY = Greedy()


@cache
def plain(target, prompt, count, sampler):
    """The `count` tokens after a prompt, by a full forward pass each."""
    text = list(prompt)
    with torch.inference_mode():
        while len(text) < len(prompt) + count:
            logits = target.model(torch.tensor([text]), use_cache=False).logits[0, -1:]
            text += sampler.walk(DraftTree.root_only(text[-1]), Scored(logits, logits), text).picks.tolist()
    return text[len(prompt) :]


def right_text(target, prompt, count, sampler=GREEDY):
    """A prompt and the `count` tokens that plain decoding emits after it."""
    return [*prompt, *plain(target, tuple(prompt), LONGEST, sampler)[:count]]


def ended(tokens, eos_ids, max_new_tokens, context_left):
    """(the tokens up to the end of the text, the reason of the end)."""
    for index, token in enumerate(tokens[: min(max_new_tokens, context_left)]):
        if token in eos_ids:
            return tokens[: index + 1], "eos"
    return tokens[: min(max_new_tokens, context_left)], "length" if max_new_tokens <= context_left else "context"


def make_drafter(kind, text, seed):
    return kind(text, seed, VOCAB) if issubclass(kind, WildDrafter) else kind()


def random_prompt(seed, length):
    return np.random.default_rng(seed).integers(0, VOCAB, length).tolist()


def assert_cache_is_fresh(target, text):
    """The cache holds all but the last token: what the target says of that one is what a full pass says."""
    root = DraftTree.root_only(text[-1])
    assert_scored(target, target.verify(root), text, root)


def assert_exact(target, kind, prompt, limit, budget, eos_ids=frozenset(), seed=0, sampler=GREEDY):
    """Generate with this drafter and compare everything with the reference; returns the generation."""
    right = right_text(target, prompt, limit + BEYOND, sampler)
    expected, reason = ended(right[len(prompt) :], eos_ids, limit, target.context - len(prompt))
    kept = []  # (accepted tokens, emitted tokens) of every step
    with patch.object(target, "eos_ids", eos_ids):
        result = generate(
            target, make_drafter(kind, right, seed), sampler, prompt, limit, budget,
            lambda step: kept.append((step.tree.tokens[step.path].tolist(), step.new.tolist())),
        )  # fmt: skip
    assert result.tokens == expected == [token for _, new in kept for token in new]
    assert all(path[1:] == new[:-1] for path, new in kept)
    assert result.reason == reason
    assert result.mat == pytest.approx(len(expected) / len(result.steps))
    assert sum(result.accept_lengths) + len(result.steps) == len(expected)
    assert_cache_is_fresh(target, [*prompt, *expected])
    return result


prompts = st.builds(random_prompt, st.integers(0, 3), st.sampled_from([1, 2, 7, 19]))
drafters = st.sampled_from([*WILD, PromptLookup, Vanilla])
budgets = st.builds(FixedBudget, st.integers(1, 64), st.integers(1, 12))
seeds = st.integers(0, 2**16)
samplers = st.sampled_from(
    [
        GumbelSampler(1.0, 1.0, 1),
        GumbelSampler(0.6, 1.0, 2),
        GumbelSampler(1.5, 0.8, 3),
        GumbelSampler(1.5, 1.0, 4, top_k=5, min_p=0.1),
        GumbelSampler(1.2, 0.9, 5, repetition_penalty=1.4),
        Greedy(repetition_penalty=1.4),
    ]
)


def test_the_tiny_model_is_worth_testing_with(tiny):
    texts = [right_text(tiny, [first], 40)[1:] for first in range(8)]
    assert len(set(map(tuple, texts))) == len(texts)
    assert np.mean([len(set(text)) for text in texts]) > 8


@given(drafters, prompts, st.integers(1, 40), budgets, seeds)
@settings(max_examples=120)
def test_any_drafter_gives_the_plain_text_and_cache(tiny, kind, prompt, limit, budget, seed):
    assert_exact(tiny, kind, prompt, limit, budget, seed=seed)


@given(drafters, prompts, st.integers(1, 30), budgets, seeds, st.data())
def test_end_tokens_anywhere_in_a_draft_end_the_text(tiny, kind, prompt, limit, budget, seed, data):
    emitted = right_text(tiny, prompt, limit)[len(prompt) :]
    eos_ids = frozenset(data.draw(st.lists(st.sampled_from(emitted), min_size=1, max_size=3)))
    assert assert_exact(tiny, kind, prompt, limit, budget, eos_ids, seed).reason == "eos"


@pytest.mark.parametrize("place", range(1, 13))
@pytest.mark.parametrize("kind", [Oracle, Overlong])
def test_every_place_of_an_end_token_in_one_draft(tiny, place, kind):
    eos_ids = frozenset(right_text(tiny, [3, 1, 4], place)[-1:])
    result = assert_exact(tiny, kind, [3, 1, 4], 30, FixedBudget(64, 64), eos_ids)
    assert len(result.steps) == 1 and result.reason == "eos"


@pytest.mark.parametrize("limit", range(1, 13))
def test_a_limit_inside_a_draft_cuts_it(tiny, limit):
    result = assert_exact(tiny, Overlong, [3, 1, 4], limit, FixedBudget(64, 10))
    assert len(result.steps) == 1 and result.reason == "length"


def test_the_oracle_accepts_all_it_drafts(tiny):
    result = assert_exact(tiny, Oracle, [3, 1, 4], 33, FixedBudget(10, 10))
    assert result.accept_lengths == [10, 10, 10] and result.mat == 11 and result.hit_rate == 1


def test_drafts_are_no_deeper_than_the_limit_allows(tiny):
    result = assert_exact(tiny, Oracle, [3, 1, 4], 14, FixedBudget(10, 10))
    assert [step.depth for step in result.steps] == [10, 2]


@given(drafters, st.integers(1, 10), st.integers(0, 3), budgets, seeds)
@settings(max_examples=30)
def test_the_text_ends_where_the_context_is_full(tiny, kind, room, beyond, budget, seed):
    prompt = random_prompt(seed % 2, tiny.context - room)
    result = assert_exact(tiny, kind, prompt, room + beyond, budget, seed=seed)
    assert result.reason == ("context" if beyond else "length") and len(result.tokens) == room


@pytest.mark.parametrize("length", [0, 256, 300])
def test_an_empty_or_overlong_prompt_is_refused(tiny, length):
    with pytest.raises(InputError) as caught:
        generate(tiny, Vanilla(), Greedy(), [1] * length, 5, FixedBudget())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("limit", [0, -1])
def test_nothing_is_generated_when_nothing_is_asked_for(tiny, limit):
    result = generate(tiny, Vanilla(), Greedy(), [1, 2], limit, FixedBudget())
    assert (result.tokens, result.steps, result.reason, result.mat) == ([], [], "length", 0)


@pytest.mark.parametrize("kind", [RandomTree, Overlong, Oracle, PromptLookup])
@pytest.mark.parametrize("capacity", [1, 7, 32])
def test_a_cache_outgrown_while_decoding_stays_exact(tiny_ending_at, monkeypatch, kind, capacity):
    monkeypatch.setattr("dresd_milvus.target.cache.CAPACITY", capacity)
    target = tiny_ending_at(())
    assert_exact(target, kind, [5, 6, 7], 60, FixedBudget(20, 6))


@given(drafters, prompts, st.integers(1, 30), budgets, seeds, samplers)
@settings(max_examples=40)
def test_text_of_any_sampler_equals_its_plain_text(tiny, kind, prompt, limit, budget, seed, sampler):
    result = assert_exact(tiny, kind, prompt, limit, budget, seed=seed, sampler=sampler)
    assert result.tokens == generate(tiny, Vanilla(), sampler, prompt, limit, budget).tokens


def test_on_step_sees_every_step_with_the_logits_of_its_tokens(tiny):
    steps = []
    drafter = RandomTree(right_text(tiny, [9, 8], 40), 1, VOCAB)
    result = generate(tiny, drafter, Greedy(), [9, 8], 30, FixedBudget(16, 6), on_step=steps.append)
    assert [token for step in steps for token in step.new] == result.tokens
    for step in steps:
        assert step.scored.logits[step.path].argmax(-1).tolist() == list(step.new)


def test_a_drafter_is_given_the_state_that_produced_the_root(tiny):
    contexts = []

    class Spy(Siblings):
        def draft(self, context):
            contexts.append((list(context.tokens), context.hidden))
            return super().draft(context)

    generate(tiny, Spy(right_text(tiny, [9, 8], 40)), Greedy(), [9, 8], 20, FixedBudget(40, 3))
    assert len(contexts) == 5
    for tokens, hidden in contexts:
        with torch.inference_mode():
            states = tiny.model(torch.tensor([tokens[:-1]]), output_hidden_states=True).hidden_states[-1]
        assert torch.allclose(hidden, states[0, -1], rtol=0, atol=1e-10)


def test_a_text_of_one_token_has_no_state_before_it(tiny):
    seen = []

    class Spy(Vanilla):
        def draft(self, context):
            seen.append(context.hidden is None)
            return super().draft(context)

    generate(tiny, Spy(), Greedy(), [9], 3, FixedBudget())
    assert seen == [True, False, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_warm_up_runs_a_whole_step_in_the_models_dtype(dtype):
    """Code that is compiled for another dtype would be compiled again at the first step."""
    seen = []

    class Spy(PromptLookup):
        def draft(self, context):
            seen.append(context.hidden)
            return super().draft(context)

        def observe(self, step):
            seen.extend([step.scored.logits, step.scored.hidden[-1]])
            assert len(step.scored.logits) == len(step.tree.tokens) > 1
            super().observe(step)

    spy = Spy()
    warm_up(spy, 12, dtype)
    assert [tensor.dtype for tensor in seen] == 3 * [dtype] and seen[0].shape == seen[2].shape == (12,)
    assert spy.draft(Context([1, 2, 1], None, 8, 4)).tokens[1] == 2, "it has forgotten the step"

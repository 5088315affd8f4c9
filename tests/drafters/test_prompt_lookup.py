"""PromptLookup against a search of the text from its end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.drafters.prompt_lookup import PromptLookup

texts = st.lists(st.integers(0, 3), min_size=1, max_size=40)


def looked_up(text, longest, shortest, length):
    """The draft by definition: the longest n-gram first, its latest earlier occurrence, copied into the present."""
    for size in range(longest, shortest - 1, -1):
        for end in range(len(text) - 1, size - 1, -1):
            if size <= len(text) and text[end - size : end] == text[len(text) - size :]:
                copied = list(text)
                for at in range(end, end + length):
                    copied.append(copied[at])
                return copied[len(text) :]
    return []


def drafted(drafter, text, max_nodes, max_depth):
    tree = drafter.draft(Context(text, None, max_nodes, max_depth))
    assert tree.tokens[0] == text[-1] and tree.parents.tolist() == list(range(-1, len(tree)))
    return tree.tokens[1:].tolist()


def told(drafter, text, new):
    """Tell the drafter of new tokens, as the loop does."""
    text += new
    drafter.observe(Step(text, np.array(new), None, np.zeros(0, int), None))


@given(texts, st.integers(1, 4), st.integers(1, 4), st.integers(0, 12), st.integers(0, 12))
def test_drafts_what_followed_the_latest_occurrence_of_the_longest_n_gram(text, one, other, max_nodes, max_depth):
    longest, shortest = max(one, other), min(one, other)
    drafter = PromptLookup(longest, shortest)
    drafter.begin(text)
    expected = looked_up(text, longest, shortest, min(max_nodes, max_depth))
    assert drafted(drafter, text, max_nodes, max_depth) == expected


@given(texts, st.lists(texts, max_size=6))
def test_what_is_observed_counts_like_what_was_prompted(prompt, steps):
    drafter, text = PromptLookup(), list(prompt)
    drafter.begin(text)
    for new in steps:
        told(drafter, text, new)
        assert drafted(drafter, text, 8, 8) == looked_up(text, 3, 1, 8)


@given(texts, texts)
def test_a_new_text_starts_without_the_last_one(first, second):
    drafter = PromptLookup()
    for text in (first, second):
        drafter.begin(text)
    assert drafted(drafter, second, 8, 8) == looked_up(second, 3, 1, 8)


@pytest.mark.parametrize("period", [[5], [5, 6], [5, 6, 7]])
def test_a_loop_is_drafted_to_full_depth(period):
    text = period * 2
    drafter = PromptLookup()
    drafter.begin(text)
    assert drafted(drafter, text, 20, 20) == (period * 20)[:20]


@pytest.mark.parametrize(("max_nodes", "max_depth"), [(0, 5), (5, 0), (0, 0)])
def test_no_budget_means_no_draft(max_nodes, max_depth):
    drafter = PromptLookup()
    drafter.begin([1, 1, 1])
    assert drafted(drafter, [1, 1, 1], max_nodes, max_depth) == []


def test_a_text_that_repeats_nothing_has_no_draft():
    drafter = PromptLookup()
    drafter.begin(list(range(10)))
    assert drafted(drafter, list(range(10)), 8, 8) == []

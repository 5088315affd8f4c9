"""Scores of a tree's nodes, as the host reads them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dresd_milvus.decoding.scores import Scored, kth_highest


@given(st.integers(0, 2**32), st.integers(1, 5000), st.integers(1, 70), st.booleans())
def test_the_kth_highest_is_that_of_a_sorted_row(seed, size, k, coarse):
    row = np.random.default_rng(seed).normal(0, 3, size)
    row = row.round() if coarse else row
    k = min(k, size)
    assert kth_highest(row, k) == np.sort(row)[size - k]


def test_a_row_is_fetched_once_and_as_the_host_reads_it():
    logits = torch.randn(1, 3, 7, dtype=torch.bfloat16)
    scored = Scored(logits, logits)
    assert scored.row(2) is scored.row(2)
    assert scored.row(2).dtype == np.float32 and (scored.row(2) == logits[0, 2].float().numpy()).all()
    assert Scored(logits.double(), logits).row(1).dtype == np.float64


def test_states_and_logits_have_one_shape_however_the_model_gives_them():
    logits, states = torch.randn(3, 7), torch.randn(3, 4)
    for scored in (Scored(logits, states), Scored(logits[None], states[None])):
        assert torch.equal(scored.logits, logits) and torch.equal(scored.hidden, states) and scored.vocab_size == 7

"""Greedy and sampled picks against exact distributions."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from transformers import TopPLogitsWarper

from dresd_milvus import choose
from dresd_milvus.choose import Greedy, Sampler, make_chooser
from dresd_milvus.errors import InputError
from dresd_milvus.host import Scored, likeliest, on_host
from dresd_milvus.tree import DraftTree
from tests.core.trees import trees

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])


def random_logits(seed: int, size: int, scale: float = 3.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, size))


def pick(choose, logits: torch.Tensor, position: int) -> int:
    """The pick from one row of logits [V]."""
    return choose.walk(DraftTree.root_only(0), Scored(logits[None], logits[None]), position).picks[0]


def nucleus(logits: np.ndarray, top_p: float) -> set[int]:
    """The smallest set of most likely tokens whose probability reaches top_p, one token at a time."""
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    kept, total = set(), 0.0
    for token in np.argsort(-probabilities, kind="stable"):
        if total >= top_p:
            break
        kept.add(int(token))
        total += probabilities[token]
    return kept


def top_p_filter(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """What is left of the logits [V] by the sampler's scores: -inf outside the nucleus."""
    return torch.where(torch.isfinite(Sampler(1.0, top_p).scores(logits, 0)), logits, -torch.inf)


def kept_tokens(filtered: torch.Tensor) -> set[int]:
    return set(torch.isfinite(filtered).nonzero().flatten().tolist())


def test_greedy_takes_the_most_likely_token():
    assert pick(Greedy(), LOGITS, 3) == 0 and pick(Greedy(), LOGITS.flip(0), 4) == 5
    assert torch.equal(Greedy().scores(LOGITS, 3), LOGITS)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.8), (1.0, 0.7), (0.7, 0.95)])
def test_sampler_draws_from_the_filtered_softmax(temperature, top_p):
    draws = 20_000
    sampler = Sampler(temperature, top_p, seed=7)
    counts = np.bincount([pick(sampler, LOGITS, position) for position in range(draws)], minlength=len(LOGITS))
    scaled = LOGITS.double().numpy() / temperature
    kept = sorted(nucleus(scaled, top_p))
    expected = np.exp(scaled[kept])
    assert counts.sum() == counts[kept].sum(), "nothing outside the nucleus is drawn"
    assert chisquare(counts[kept], draws * expected / expected.sum()).pvalue > 1e-3


def test_sampler_draws_from_the_softmax_over_seeds_too():
    draws = 20_000
    counts = np.bincount([pick(Sampler(seed=seed), LOGITS, 5) for seed in range(draws)], minlength=len(LOGITS))
    assert chisquare(counts, draws * LOGITS.double().softmax(-1).numpy()).pvalue > 1e-3


def test_neighbouring_positions_are_drawn_independently():
    sampler, draws = Sampler(seed=3), 20_000
    picks = np.array([pick(sampler, LOGITS[:3], position) for position in range(draws + 1)])
    pairs = np.bincount(picks[:-1] * 3 + picks[1:], minlength=9)
    single = LOGITS[:3].double().softmax(-1).numpy()
    assert chisquare(pairs, draws * np.outer(single, single).ravel()).pvalue > 1e-3


def test_noise_is_standard_gumbel():
    assert kstest(Sampler(seed=1).noise(20_000, 0).numpy(), "gumbel_r").pvalue > 1e-3


@given(st.integers(0, 2**32), st.integers(0, 2**40))
def test_same_seed_and_position_give_the_same_scores(seed, position):
    first, second = Sampler(seed=seed), Sampler(seed=seed)
    assert torch.equal(first.scores(LOGITS, position), second.scores(LOGITS, position))
    assert pick(first, LOGITS, position) == int(first.scores(LOGITS, position).argmax())


@given(st.integers(0, 2**32), st.integers(0, 2**40), st.integers(1, 100))
def test_noise_differs_across_positions_and_seeds(seed, position, step):
    noise = Sampler(seed=seed).noise(300, position)
    for other in (Sampler(seed=seed).noise(300, position + step), Sampler(seed=seed + step).noise(300, position)):
        assert not set(noise.tolist()) & set(other.tolist())


@given(
    st.integers(0, 2**32), st.sampled_from([2, 5, 63, 64, 65, 300]), st.floats(0.01, 1), st.sampled_from([0.1, 3, 8])
)
def test_top_p_filter_keeps_the_smallest_nucleus(seed, size, top_p, scale):
    logits = random_logits(seed, size, scale)
    filtered = top_p_filter(logits, top_p)
    kept = kept_tokens(filtered)
    assert kept == nucleus(logits.numpy(), top_p) or top_p >= 1 - 1e-9  # rounding decides about the last crumbs
    scores = Sampler(0.5, top_p, seed=3).scores(logits, 9)
    inside = torch.isfinite(scores)
    expected = ((logits - logits.max()) / 0.5 + Sampler(seed=3).noise(size, 9))[inside]
    assert torch.allclose(scores[inside], expected), "a score is the log-probability with the position's noise"
    assert int(logits.argmax()) in kept


@given(st.integers(0, 2**32), st.sampled_from([5, 64, 300]), st.floats(0.01, 0.999))
def test_top_p_filter_agrees_with_transformers(seed, size, top_p):
    logits = random_logits(seed, size)
    assert torch.equal(top_p_filter(logits, top_p), TopPLogitsWarper(top_p)(None, logits[None].clone())[0])


def test_the_most_likely_token_survives_any_top_p():
    assert kept_tokens(top_p_filter(LOGITS, 1e-12)) == {0}


@given(
    st.integers(0, 2**32),
    st.sampled_from([5, 300, 700]),
    st.floats(0.01, 1),
    st.sampled_from([0.1, 3, 8]),
    st.booleans(),
)
def test_picks_of_the_likeliest_tokens_are_those_of_whole_rows(seed, size, top_p, scale, coarse):
    """What a device's rows go through: 256 tokens of each, and the whole row where they do not surely suffice."""
    logits = torch.stack([random_logits(seed + row, size, scale) for row in range(4)])
    if coarse:
        logits = logits.round()  # many are equal
    sampler = Sampler(0.7, top_p, seed)
    of_likeliest, of_rows = sampler.of_likeliest(logits, 7), sampler.of_rows(logits, 7)
    with mock.patch.object(choose, "on_host", wraps=choose.on_host) as fetched:
        found = [of_likeliest(node, 2) for node in range(4)]
    assert found == [of_rows(node, 2) for node in range(4)]
    assert not fetched.called or size > 256
    if scale == 8 and top_p < 0.9 and not coarse:
        assert not fetched.called, "a few tokens hold nine tenths"


@given(trees(tokens=5), st.integers(0, 2**32), st.sampled_from([0.0, 0.7]), st.sampled_from([0.6, 1.0]))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_walks_on_the_host_and_of_a_device_are_those_of_a_pick_after_the_other(dtype, tree, seed, temperature, top_p):
    logits = torch.stack([random_logits(seed + row, 5, 1.0) for row in range(len(tree.tokens))]).to(dtype)
    chooser = make_chooser(temperature, top_p, seed)
    path, picks = tree.walk(lambda node, depth: int(chooser.scores(logits[node], 9 + depth).argmax()))
    here, there = Scored(logits, logits), Scored(logits, logits)
    there.held = None  # as of a device, whose rows are fetched
    for scored in (here, there):
        walk = chooser.walk(tree, scored, 9)
        assert walk.path.tolist() == path.tolist() and walk.picks.tolist() == picks.tolist()


@given(st.integers(1, 300), st.integers(0, 2**32), st.booleans())
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_likeliest_is_the_first_of_the_highest(dtype, size, seed, coarse):
    row = on_host((random_logits(seed, size).round() if coarse else random_logits(seed, size)).to(dtype))
    assert likeliest(row) == row.argmax()


@pytest.mark.parametrize(
    "parameters",
    [
        *[(temperature, 1.0, 0) for temperature in (0.0, -1.0, float("nan"), float("inf"))],
        *[(1.0, top_p, 0) for top_p in (0.0, -0.5, 1.1, float("nan"))],
        (1.0, 1.0, -1),
    ],
    ids=str,
)
def test_bad_parameters_are_refused(parameters):
    with pytest.raises(InputError) as caught:
        Sampler(*parameters)
    assert "\n" not in str(caught.value)


def test_make_chooser_is_greedy_at_temperature_zero():
    assert make_chooser(0, 0.9, 1) == Greedy()
    assert make_chooser(0.5, 0.9, 1) == Sampler(0.5, 0.9, 1)


def test_a_tiny_temperature_picks_the_most_likely_token() -> None:
    assert pick(Sampler(1e-310), torch.tensor([1.0, 2.0, 3.0]), 5) == 2


def test_a_seed_beyond_the_generators_is_refused() -> None:
    with pytest.raises(InputError, match="from 0 to 2"):
        Sampler(seed=2**64)


@given(
    st.integers(0, 2**32), st.sampled_from([1, 5, 64, 300, 5000]), st.floats(1e-3, 10), st.sampled_from([0.1, 3, 30])
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_quickly_made_mass_is_as_right_as_it_says(dtype, seed, size, temperature, scale):
    row = random_logits(seed, size, scale).numpy().astype(dtype)
    exact = choose._mass(row, np.float64(row.max()), temperature)
    assert exact == pytest.approx(np.exp((row.astype(np.float64) - row.max()) / temperature).sum(), rel=1e-11)
    assert abs(choose._about_mass(row, row.max(), temperature) / exact - 1) < choose.DOUBT / 3


@given(st.integers(0, 2**32), st.sampled_from([5, 300]), st.integers(0, 9), st.sampled_from([-1e-7, -1e-9, 1e-9, 1e-7]))
def test_where_a_quick_mass_leaves_doubt_of_the_nucleus_the_exact_one_decides(seed, size, last, beside):
    """Nuclei that end a hair before or after a token."""
    row = random_logits(seed, size, 2.0).numpy()
    exact = choose._mass(row, row.max(), 0.7)
    falling = np.sort(np.exp((row - row.max()) / 0.7))[::-1].cumsum() / exact
    top_p = float(np.clip(falling[min(last, size - 2)] + beside, 0.01, 0.999))
    quick, well = (choose._nucleus(row, 0.7, top_p, total)[0] for total in (choose.UNKNOWN, exact))
    assert quick.tolist() == well.tolist()

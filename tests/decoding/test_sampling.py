"""Greedy and sampled picks against exact distributions, transformers' filters, and picks made the slow way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from dresd_milvus.decoding.sampling import Greedy, GumbelSampler, make_sampler
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.errors import InputError
from tests.decoding.trees import climb, trees

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
ROW = LOGITS.double().numpy()
seeds, sizes, scales = st.integers(0, 2**32), st.sampled_from([2, 5, 63, 64, 65, 300]), st.sampled_from([0.1, 3, 8])


def random_logits(seed: int, size: int, scale: float = 3.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, size))


def text_of(position: int) -> list[int]:
    """A text whose next token has this position."""
    return [0] * position


def pick(sampler, logits: torch.Tensor, text: list[int]) -> int:
    """The pick from one row of logits [V] after a text."""
    return sampler.walk(DraftTree.root_only(0), Scored(logits[None], logits[None]), text).picks[0]


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


def kept_tokens(levels: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.isfinite(levels)).tolist())


def test_greedy_takes_the_most_likely_token():
    assert pick(Greedy(), LOGITS, [1]) == 0 and pick(Greedy(), LOGITS.flip(0), [1]) == 5
    assert Greedy().scores(ROW, [1]) is ROW


@given(seeds, st.integers(1, 300))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_of_equal_logits_greedy_takes_the_first(dtype, seed, size):
    logits = random_logits(seed, size).round().to(dtype)
    assert pick(Greedy(), logits, [1]) == int((logits == logits.max()).nonzero()[0])


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.8), (1.0, 0.7), (0.7, 0.95)])
def test_sampler_draws_from_the_filtered_softmax(temperature, top_p):
    draws = 20_000
    sampler, text = GumbelSampler(temperature, top_p, seed=7), text_of(draws)
    counts = np.bincount([pick(sampler, LOGITS, text[:position]) for position in range(draws)], minlength=len(LOGITS))
    scaled = ROW / temperature
    kept = sorted(nucleus(scaled, top_p))
    expected = np.exp(scaled[kept])
    assert counts.sum() == counts[kept].sum(), "nothing outside the nucleus is drawn"
    assert chisquare(counts[kept], draws * expected / expected.sum()).pvalue > 1e-3


def test_sampler_draws_from_the_softmax_over_seeds_too():
    draws = 20_000
    picks = [pick(GumbelSampler(seed=seed), LOGITS, [1] * 5) for seed in range(draws)]
    counts = np.bincount(picks, minlength=len(LOGITS))
    assert chisquare(counts, draws * LOGITS.double().softmax(-1).numpy()).pvalue > 1e-3


def test_neighbouring_positions_are_drawn_independently():
    sampler, draws = GumbelSampler(seed=3), 20_000
    text = text_of(draws)
    picks = np.array([pick(sampler, LOGITS[:3], text[:position]) for position in range(draws + 1)])
    pairs = np.bincount(picks[:-1] * 3 + picks[1:], minlength=9)
    single = LOGITS[:3].double().softmax(-1).numpy()
    assert chisquare(pairs, draws * np.outer(single, single).ravel()).pvalue > 1e-3


def test_noise_is_standard_gumbel():
    assert kstest(GumbelSampler(seed=1).noise(20_000, 0), "gumbel_r").pvalue > 1e-3


def test_noise_of_a_seed_stays_what_it_was():
    """Texts of a seed are the same with every version."""
    known = [0.20117457700707742, -0.6871793096477139, 2.207207853766401, 7.612238920995283]
    assert np.allclose(GumbelSampler(seed=12345).noise(4, 678), known, rtol=1e-12)
    beyond = [1.9437200014989473, 0.11053357508290923]
    assert np.allclose(GumbelSampler(seed=2**63 - 1).noise(2, 2**40), beyond, rtol=1e-12)


@pytest.mark.parametrize(
    ("temperature", "top_p", "picks"),
    [
        (0.7, 1.0, [1447, 4456, 4871, 4807, 256, 2889, 3415, 2151]),
        (1.5, 1.0, [1447, 4456, 4648, 4807, 256, 2889, 4020, 2151]),
        (0.7, 0.95, [1447, 4456, 4871, 227, 256, 2889, 3415, 2151]),
        (1.0, 0.5, [2833, 3435, 4871, 2949, 1598, 2889, 3415, 3461]),
    ],
)
def test_picks_of_a_seed_stay_what_they_were(temperature, top_p, picks):
    for row, known in enumerate(picks):
        sampler = GumbelSampler(temperature, top_p, 2**63 + row)
        assert pick(sampler, random_logits(row, 5000, 1.0).float(), text_of(1000 * row + 7)) == known


@given(
    seeds, st.integers(0, 2**64 - 1), st.integers(0, 5000), st.sampled_from([1, 2, 5, 64, 300, 3000]),
    st.sampled_from([0.0, 0.1, 1, 3, 30]), st.floats(0.05, 20), st.sampled_from([0.3, 0.95, 1.0]), st.booleans(),
)  # fmt: skip
def test_a_pick_is_the_argmax_of_the_scores(seed, noise_seed, position, size, scale, temperature, top_p, coarse):
    """Noise that is looked at for some tokens only decides as that of all does, however flat or steep the logits."""
    logits = random_logits(seed, size, scale)
    row = (logits.round() if coarse else logits).numpy()
    sampler, text = GumbelSampler(temperature, top_p, noise_seed), text_of(position)
    scores = (row - row.max()) / temperature + sampler.noise(size, position)
    outside = sorted(set(range(size)) - kept_tokens(sampler.filtered(row, text)))
    scores[outside] = -np.inf
    assert not outside or top_p < 1
    assert (sampler.scores(row, text) == scores).all()
    assert pick(sampler, torch.from_numpy(row), text) == int(scores.argmax())


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_pick_is_the_argmax_of_the_scores_of_a_large_vocabulary(scale):
    sampler, row = GumbelSampler(0.7, seed=5), random_logits(1, 128_256, scale).numpy()
    for position in range(20):
        text = text_of(position)
        assert pick(sampler, torch.from_numpy(row), text) == int(sampler.scores(row, text).argmax())


def test_tokens_that_the_target_rules_out_are_never_picked():
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.1])
    for sampler in (
        GumbelSampler(9.0),
        GumbelSampler(9.0, 0.99),
        GumbelSampler(9.0, top_k=3),
        GumbelSampler(9.0, min_p=0.01),
    ):
        assert {pick(sampler, logits, text_of(position)) for position in range(50)} == {1, 3}


@given(st.integers(0, 2**32), st.integers(0, 2**40), st.integers(1, 100))
def test_noise_differs_across_positions_and_seeds(seed, position, step):
    noise = GumbelSampler(seed=seed).noise(300, position)
    assert (noise == GumbelSampler(seed=seed).noise(300, position)).all()
    for other in (
        GumbelSampler(seed=seed).noise(300, position + step),
        GumbelSampler(seed=seed + step).noise(300, position),
    ):
        assert not set(noise.tolist()) & set(other.tolist())


@given(seeds, sizes, st.floats(0.01, 1), scales)
def test_top_p_keeps_the_smallest_nucleus(seed, size, top_p, scale):
    row = random_logits(seed, size, scale).numpy()
    kept = kept_tokens(GumbelSampler(1.0, top_p).filtered(row, [1]))
    assert kept == nucleus(row, top_p) or top_p >= 1 - 1e-9  # rounding decides about the last crumbs
    assert int(row.argmax()) in kept


@given(seeds, sizes, st.floats(0.01, 0.99))
def test_of_equal_tokens_the_nucleus_has_the_first(seed, size, top_p):
    row = random_logits(seed, size, 1.0).round().numpy()
    levels = GumbelSampler(1.0, top_p).filtered(row, [1])
    least = row[np.isfinite(levels)].min()
    equal = np.isfinite(levels[row == least])
    assert equal[: equal.sum()].all() and np.isfinite(levels[row > least]).all()


@given(
    seeds, sizes, scales, st.floats(0.1, 3), st.one_of(st.just(1.0), st.floats(0.01, 0.999)), st.integers(0, 400),
    st.one_of(st.just(0.0), st.floats(1e-4, 1)), st.sampled_from([0.5, 1.0, 1.3]),
    st.lists(st.integers(0, 1), min_size=1),
)  # fmt: skip
def test_filters_and_their_order_are_those_of_transformers(
    seed, size, scale, temperature, top_p, top_k, min_p, penalty, text
):
    logits = random_logits(seed, size, scale)
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty), TemperatureLogitsWarper(temperature)])
    processors += [TopKLogitsWarper(top_k)] if top_k else []
    processors += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    processors += [MinPLogitsWarper(min_p)] if min_p else []
    theirs = processors(torch.tensor([text]), logits[None].clone())[0].log_softmax(-1).numpy()
    ours = GumbelSampler(temperature, top_p, 0, top_k, min_p, penalty).filtered(logits.numpy(), text)
    assert kept_tokens(ours) == kept_tokens(theirs)
    kept = sorted(kept_tokens(ours))
    assert np.allclose(ours[kept] - np.log(np.exp(ours[kept]).sum()), theirs[kept], atol=1e-9)


@given(seeds, st.sampled_from([0.5, 1.0, 1.3]), st.lists(st.integers(0, 9), min_size=1))
def test_greedy_penalises_repetition_as_transformers_does(seed, penalty, text):
    logits = random_logits(seed, 10)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([text]), logits[None].clone())[0]
    assert (Greedy(penalty).scores(logits.numpy(), text) == theirs.numpy()).all()
    assert pick(Greedy(penalty), logits, text) == int(theirs.argmax())


def test_a_token_that_the_target_reads_and_never_writes_is_not_penalised():
    assert (Greedy(2.0).scores(ROW, [0, 77]) == [1, *ROW[1:]]).all()


def test_what_is_filtered_is_a_copy():
    """Rows are the target's, and others look at them after the walk."""
    row = ROW.copy()
    GumbelSampler(0.5, 0.5, 0, 3, 0.1, 1.5).filtered(row, [0, 1])
    Greedy(1.5).scores(row, [0, 1])
    assert (row == ROW).all()


def test_the_most_likely_token_survives_any_filter():
    for sampler in (GumbelSampler(1.0, 1e-12), GumbelSampler(top_k=1), GumbelSampler(min_p=1.0)):
        assert kept_tokens(sampler.filtered(ROW, [1])) == {0}


@given(
    trees(tokens=5), seeds, st.sampled_from([0.0, 0.7]), st.sampled_from([0.6, 1.0]), st.sampled_from([1.0, 1.5]),
    st.lists(st.integers(0, 4), max_size=6),
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_walk_takes_a_pick_after_the_other(dtype, tree, seed, temperature, top_p, penalty, prompt):
    """Each pick is made of its node's logits, after the text and the node's own path."""
    logits = torch.stack([random_logits(seed + row, 5, 1.0) for row in range(len(tree.tokens))]).to(dtype)
    sampler = make_sampler(temperature, top_p, seed, repetition_penalty=penalty)
    text = [*prompt, 4]
    path, picks = sampler.walk(tree, Scored(logits, logits), text)
    assert path.tolist() == climb(tree, int(path[-1]))
    assert text == [*prompt, 4], "the text is the loop's"
    for node, token in zip(path.tolist(), picks.tolist(), strict=True):
        row = logits[node].double().numpy() if dtype == torch.float64 else logits[node].float().numpy()
        assert token == int(sampler.scores(row, [*text, *tree.tokens[climb(tree, node)[1:]].tolist()]).argmax())
    assert tree.tokens[path[1:]].tolist() == picks[:-1].tolist()
    below = tree.parents == path[-1]
    assert picks[-1] not in tree.tokens[below], "it goes as far as the tree does"


@pytest.mark.parametrize(
    "parameters",
    [
        *[{"temperature": temperature} for temperature in (0.0, -1.0, float("nan"), float("inf"))],
        *[{"top_p": top_p} for top_p in (0.0, -0.5, 1.1, float("nan"))],
        *[{"min_p": min_p} for min_p in (-0.1, 1.1, float("nan"))],
        *[{"repetition_penalty": penalty} for penalty in (0.0, -1.0, float("nan"), float("inf"))],
        {"top_k": -1},
        {"seed": -1},
        {"seed": 2**64},
    ],
    ids=str,
)
def test_bad_parameters_are_refused(parameters):
    with pytest.raises(InputError) as caught:
        GumbelSampler(**parameters)
    assert "\n" not in str(caught.value)
    if "repetition_penalty" in parameters:
        with pytest.raises(InputError, match="repetition penalty"):
            Greedy(**parameters)


def test_make_sampler_is_greedy_at_temperature_zero():
    assert make_sampler(0, 0.9, 1, 5, 0.1, 1.2) == Greedy(1.2)
    assert make_sampler(0.5, 0.9, 1) == GumbelSampler(0.5, 0.9, 1)
    assert make_sampler(0.5, 0.9, 1, 5, 0.1, 1.2) == GumbelSampler(0.5, 0.9, 1, 5, 0.1, 1.2)


def test_a_tiny_temperature_picks_the_most_likely_token() -> None:
    assert pick(GumbelSampler(1e-310), torch.tensor([1.0, 2.0, 3.0]), [1]) == 2
    assert pick(GumbelSampler(1e-310, 0.9), torch.tensor([1.0, 2.0, 3.0]), [1]) == 2

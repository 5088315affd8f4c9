"""When requests arrive, and how prompts are shared out among rounds."""

from math import inf

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from evaluation.traffic.load import Load, arrivals

counts, rates, seeds = st.integers(0, 200), st.floats(1e-3, 1e6), st.integers(0, 2**32)


@given(counts, rates, seeds)
def test_arrivals_are_in_order_and_a_seed_gives_the_same(count: int, rate: float, seed: int) -> None:
    times = arrivals(count, rate, seed)
    assert times.shape == (count,) and (times >= 0).all() and (np.diff(times) >= 0).all() and np.isfinite(times).all()
    np.testing.assert_array_equal(times, arrivals(count, rate, seed))


@given(counts, rates, seeds)
def test_at_another_rate_the_same_stream_is_faster_or_slower(count: int, rate: float, seed: int) -> None:
    np.testing.assert_allclose(arrivals(count, rate, seed) * rate, arrivals(count, 1.0, seed))


@given(counts, seeds)
def test_at_an_infinite_rate_all_arrive_at_once(count: int, seed: int) -> None:
    assert not arrivals(count, inf, seed).any()


def test_arrivals_are_a_poisson_process() -> None:
    """Gaps are exponential with mean 1 / rate, and neighbours do not depend on each other."""
    gaps = np.diff(arrivals(5_000, 4.0, 1), prepend=0.0)
    assert kstest(gaps, "expon", args=(0, 0.25)).pvalue > 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.05
    assert not np.array_equal(gaps, np.diff(arrivals(5_000, 4.0, 2), prepend=0.0))


@given(st.integers(1, 60), st.integers(1, 12), rates | st.just(inf), seeds)
def test_every_prompt_is_in_one_round(prompts: int, rounds: int, rate: float, seed: int) -> None:
    blocks = Load(rate=rate, rounds=rounds, seed=seed).blocks(prompts)
    assert len(blocks) == min(rounds, prompts)
    assert sorted(request.prompt for block in blocks for request in block) == list(range(prompts))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
    for block in blocks:
        assert [request.prompt for request in block] == sorted(request.prompt for request in block)
        assert [request.arrives for request in block] == sorted(request.arrives for request in block)


def test_rounds_have_arrivals_of_their_own() -> None:
    first, second = Load(rate=1.0, rounds=2).blocks(40)
    assert [request.arrives for request in first] != [request.arrives for request in second]

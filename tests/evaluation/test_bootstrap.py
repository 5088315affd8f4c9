"""Intervals by the bootstrap."""

import numpy as np
import pytest

from evaluation.reporting.bootstrap import interval


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    sample = np.random.default_rng(1).normal(5, 2, 400)
    low, high = interval(lambda drawn: drawn.mean(1), sample)
    error = 1.96 * sample.std() / 20
    assert [low, high] == pytest.approx([sample.mean() - error, sample.mean() + error], abs=0.1 * error)


def test_samples_are_drawn_together() -> None:
    """Of every resample the ratio is the same, which it is not where the two are drawn apart."""
    sample = np.random.default_rng(1).random(20)
    found = interval(lambda ours, theirs: ours.sum(1) / theirs.sum(1), 2 * sample, sample)
    assert found == pytest.approx([2, 2])


def test_one_prompt_has_an_interval_without_width() -> None:
    table = np.array([[3.0, 2.0]])
    assert interval(lambda drawn: np.divide(*drawn.sum(1).T), table) == [1.5, 1.5]

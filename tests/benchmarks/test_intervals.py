from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from fastspan.benchmarks.intervals import Interval, mean_interval, paired_difference_interval
from fastspan.errors import DataError, InputError


@pytest.mark.parametrize(("level", "z"), [(0.95, 1.959964), (0.8, 1.281552)])
def test_agrees_with_normal_theory(level, z):
    values = np.random.default_rng(1).normal(5.0, 2.0, size=4000)
    interval = mean_interval(values, level=level, resamples=4000)
    half = z * values.std() / math.sqrt(values.size)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.06 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.06 * half)
    assert interval.level == level


def test_covers_the_true_mean_as_often_as_it_says():
    generator = np.random.default_rng(2)
    covered = 0
    for trial in range(300):
        interval = mean_interval(generator.random(100) < 0.7, resamples=400, seed=trial)
        covered += interval.low <= 0.7 <= interval.high
    # Three standard deviations of a binomial(300, 0.95) below, and room for the percentile method's
    # slight narrowness at 100 values.
    assert 0.90 * 300 <= covered <= 0.985 * 300


def test_a_seed_gives_one_interval():
    values = np.random.default_rng(3).random(200)
    assert mean_interval(values) == mean_interval(values.tolist())
    assert mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_the_interval_does_not_depend_on_how_draws_are_batched():
    values = np.random.default_rng(4).random(50)
    whole = mean_interval(values, resamples=301)
    assert mean_interval(values, resamples=301, at_once=1) == whole


def test_memory_does_not_grow_with_the_resamples():
    values = np.zeros(10_000)
    tracemalloc.start()
    try:
        mean_interval(values, resamples=500)
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


def test_pairing_takes_out_what_both_find_hard():
    generator = np.random.default_rng(5)
    hardness = generator.normal(size=500)
    first = hardness + 0.1 + generator.normal(scale=0.1, size=500)
    paired = paired_difference_interval(first, hardness)
    assert paired.estimate == pytest.approx(np.mean(first - hardness))
    assert 0.0 < paired.low < 0.1 < paired.high
    alone = mean_interval(first)
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low)
    assert paired_difference_interval(hardness, hardness) == Interval(0.0, 0.0, 0.0, 0.95)


def test_the_sign_is_first_minus_second():
    assert paired_difference_interval([3.0, 3.0], [1.0, 1.0]) == Interval(2.0, 2.0, 2.0, 0.95)


@pytest.mark.parametrize("values", [[], [[1.0]], 1.0, [1.0, math.nan], [math.inf]])
def test_scores_are_checked(values):
    with pytest.raises(DataError):
        mean_interval(values)


def test_pairs_are_checked():
    with pytest.raises(DataError, match="same questions"):
        paired_difference_interval([1.0, 2.0], [1.0])


@pytest.mark.parametrize("options", [{"level": 0.0}, {"level": 95}, {"resamples": 0}])
def test_options_are_checked(options):
    with pytest.raises(InputError, match=next(iter(options))):
        mean_interval([1.0, 2.0], **options)

from __future__ import annotations

import numpy as np
import pytest

from fastspan.benchmarks.speed.spread import ratio_spread, summarize
from fastspan.errors import DataError

generator = np.random.default_rng(0)


def rounds(count, per_turn, scale=1.0):
    return {number: (scale * generator.normal(10, 1, per_turn)).tolist() for number in range(count)}


def test_the_median_of_all_samples_lies_in_its_interval():
    taken = rounds(20, 5)
    latency = summarize(taken)
    assert latency.samples == 100
    assert latency.median.estimate == np.median(np.concatenate(list(taken.values())))
    assert latency.median.low < latency.median.estimate < latency.median.high


@pytest.mark.parametrize(("count", "p95", "p99"), [(19, False, False), (20, True, False), (100, True, True)])
def test_a_percentile_is_given_only_where_the_samples_can_show_it(count, p95, p99):
    latency = summarize(rounds(count, 1))
    assert (latency.p95 is not None, latency.p99 is not None) == (p95, p99)


def test_samples_that_stray_by_round_widen_the_interval():
    by_round = {number: [float(10 + number % 2)] * 5 for number in range(10)}
    mixed = {number: [10.0, 10.0, 11.0, 11.0, 10.5] for number in range(10)}
    wide, narrow = summarize(by_round).median, summarize(mixed).median
    assert wide.high - wide.low > narrow.high - narrow.low == 0


def test_what_slows_both_systems_of_a_round_cancels_out():
    speed = generator.uniform(1, 5, 30)
    slower = {number: [2.0 * factor] for number, factor in enumerate(speed)}
    faster = {number: [1.0 * factor] for number, factor in enumerate(speed)}
    ratio = ratio_spread(slower, faster)
    assert ratio.estimate == ratio.low == ratio.high == 2.0


def test_a_ratio_lies_within_what_its_rounds_give():
    # Of all samples together, the medians' ratio would be 1.5, which no round shows.
    slower, faster = {0: [2.0], 1: [3.0], 2: [40.0]}, {0: [1.0], 1: [2.8], 2: [2.0]}
    ratio = ratio_spread(slower, faster)
    assert ratio.estimate == 2.0
    assert (ratio.low, ratio.high) == (3.0 / 2.8, 20.0)


def test_only_rounds_that_both_took_part_in_are_compared():
    assert ratio_spread({0: [4.0], 1: [100.0]}, {0: [2.0]}).estimate == 2.0
    with pytest.raises(DataError, match="same round"):
        ratio_spread({0: [1.0]}, {1: [1.0]})


@pytest.mark.parametrize(("count", "is_interval"), [(5, False), (6, True)])
def test_too_few_rounds_give_their_range_and_no_interval(count, is_interval):
    taken = {number: [10.0 + number, 10.5 + number] for number in range(count)}
    median = summarize(taken).median
    assert (median.is_interval, median.rounds) == (is_interval, count)
    if not is_interval:
        assert (median.low, median.high) == (10.25, 10.25 + count - 1)
        ratio = ratio_spread(taken, {number: [1.0] for number in taken})
        assert (ratio.low, ratio.high) == (median.low, median.high)


def test_there_must_be_samples():
    with pytest.raises(DataError, match="no samples"):
        summarize({})

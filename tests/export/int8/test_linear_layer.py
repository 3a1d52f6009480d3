"""Splitting outliers and rounding weights, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastspan.export.int8.linear_layer import (
    BLOCK,
    CHANNELS_PER_SPLIT,
    InputStatistics,
    quantize_linear,
    split_outliers,
)
from fastspan.export.int8.rounding import PAIR_LIMIT, quantize_columns
from support.models.linear_layers import linear_and_inputs, product


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=40), st.integers(0, 12))
def test_splitting_lowers_the_largest_magnitude_as_far_as_it_can(peaks, limit):
    peak = np.array(peaks, np.float32)
    copies = split_outliers(peak, limit)
    assert (copies >= 1).all()
    used = int(copies.sum()) - len(peak)
    assert used <= limit
    largest = (peak / copies).max()
    # With one copy fewer of any split channel, that channel alone would be at least as large as the rest.
    for channel in np.flatnonzero(copies > 1):
        assert peak[channel] / (copies[channel] - 1) >= largest * (1 - 1e-6)
    if used < limit:
        assert largest <= 1.2 * float(np.median(peak)) * (1 + 1e-6)


def test_without_statistics_nothing_is_split_and_weights_are_rounded_to_nearest():
    linear, _ = linear_and_inputs(20, 6)
    quantized = quantize_linear(linear, None)
    assert np.array_equal(quantized.weight, np.rint(linear.weight / quantized.scale))
    assert (quantized.scale >= quantize_columns(linear.weight)[1]).all()
    assert quantized.extra.size == 0


@pytest.mark.parametrize("size_in", [48, BLOCK, BLOCK + 40])
@pytest.mark.parametrize("largest", [7, 127])
def test_compensated_rounding_is_nearer_than_rounding_to_nearest(size_in, largest):
    linear, inputs = linear_and_inputs(size_in, 16)
    exact = inputs @ linear.weight + linear.bias
    nearest, scale = quantize_columns(linear.weight, largest)
    error_nearest = np.square(inputs @ (nearest * scale) + linear.bias - exact).mean()
    seen = InputStatistics.of(inputs)
    error = np.square(product(quantize_linear(linear, seen, largest), inputs) - exact).mean()
    assert error < 0.8 * error_nearest


def test_split_channels_add_up_to_the_layer():
    linear, inputs = linear_and_inputs(2 * CHANNELS_PER_SPLIT, 8)
    inputs[:, 5] *= 40
    quantized = quantize_linear(linear, InputStatistics.of(inputs))
    assert list(quantized.extra) == [5, 5]
    assert quantized.copies[5] == 3
    exact = inputs @ linear.weight + linear.bias
    np.testing.assert_allclose(product(quantized, inputs), exact, atol=0.02 * np.abs(exact).max())


@pytest.mark.parametrize("reorder", [False, True])
def test_no_neighbours_add_up_to_more_than_processors_can_multiply(reorder):
    linear, inputs = linear_and_inputs(2 * BLOCK + 7, 24)
    inputs[:, [5, 6, 700]] *= 30
    # Neighbours that are as large as they can be, and alike.
    linear.weight[:40] = np.abs(linear.weight).max(axis=0)
    quantized = quantize_linear(linear, InputStatistics.of(inputs), reorder=reorder)
    rows = quantized.weight.astype(np.int64)
    assert len(rows) > len(linear.weight)
    pairs = np.abs(np.append(rows, np.zeros((len(rows) % 2, 24), np.int64), axis=0).reshape(-1, 2, 24).sum(1))
    assert 100 < pairs.max() <= PAIR_LIMIT
    exact = inputs @ linear.weight + linear.bias
    np.testing.assert_allclose(product(quantized, inputs), exact, atol=0.02 * np.abs(exact).max())


def test_copies_of_many_levels_are_slices_and_a_gather():
    linear, inputs = linear_and_inputs(16 * CHANNELS_PER_SPLIT, 8)
    inputs[:, 5] *= 60
    inputs[:, 9] *= 12
    seen = InputStatistics.of(inputs)
    plain, quantized = quantize_linear(linear, seen), quantize_linear(linear, seen, reorder=True)
    assert plain.tails == ()
    assert list(quantized.copies) == sorted(plain.copies)
    assert list(quantized.order[-2:]) == [9, 5]
    size, most = len(quantized.copies), int(quantized.copies.max())
    assert most > 9
    assert len(quantized.tails) == 8
    assert quantized.tails[0] == np.flatnonzero(quantized.copies > 1)[0]
    assert set(quantized.gathered) == {size - 1}
    counted = np.bincount(quantized.extra, minlength=size) + 1
    assert list(counted) == list(quantized.copies)
    exact = inputs @ linear.weight + linear.bias
    np.testing.assert_allclose(product(quantized, inputs), exact, atol=0.02 * np.abs(exact).max())


def test_statistics_join_as_if_seen_together():
    _, inputs = linear_and_inputs(BLOCK + 3, 4, rows=30)
    together = InputStatistics.of(inputs)
    joined = InputStatistics.of(inputs[:11]).joined(InputStatistics.of(inputs[11:]))
    np.testing.assert_array_equal(joined.low, inputs.min(axis=0))
    np.testing.assert_array_equal(joined.high, inputs.max(axis=0))
    np.testing.assert_array_equal(joined.peak, np.abs(inputs).max(axis=0))
    assert joined.rows == together.rows == 30
    assert [m.shape for m in joined.second_moments] == [(BLOCK, BLOCK), (3, 3)]
    for one, other in zip(joined.second_moments, together.second_moments, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_an_input_that_is_always_zero():
    linear, _ = linear_and_inputs(40, 4)
    quantized = quantize_linear(linear, InputStatistics.of(np.zeros((5, 40), np.float32)))
    assert np.abs(quantized.weight * quantized.scale - linear.weight).max() < 0.05

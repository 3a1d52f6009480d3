"""Splitting outliers and rounding weights, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastspan.export.architecture import Linear
from fastspan.export.quantization import (
    BLOCK,
    CHANNELS_PER_SPLIT,
    InputStatistics,
    noise_share,
    quantize_columns,
    quantize_linear,
    split_outliers,
)


def linear_and_inputs(size_in, size_out, rows=400, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((size_in, size_in)).astype(np.float32) / size_in**0.5
    inputs = (rng.standard_normal((rows, size_in)).astype(np.float32) @ mixing).astype(np.float32)
    weight = rng.standard_normal((size_in, size_out)).astype(np.float32)
    return Linear(weight, rng.standard_normal(size_out).astype(np.float32)), inputs


def product(quantized, inputs):
    shared = inputs / quantized.copies
    extended = np.concatenate([shared, shared[:, quantized.extra]], axis=1)
    return extended @ (quantized.weight * quantized.scale) + quantized.bias


def test_columns_are_symmetric_with_one_scale_each():
    weight = np.array([[1.0, -4.0, 0.0], [-2.0, 3.0, 0.0]], np.float32)
    quantized, scale = quantize_columns(weight)
    assert quantized.tolist() == [[64, -127, 0], [-127, 95, 0]]
    np.testing.assert_allclose(scale, [2 / 127, 4 / 127, 1 / 127])


@given(st.integers(1, 127), st.integers(0, 2**32 - 1))
def test_no_weight_is_off_by_more_than_half_a_step(largest, seed):
    weight = np.random.default_rng(seed).standard_normal((7, 5)).astype(np.float32)
    quantized, scale = quantize_columns(weight, largest)
    assert np.abs(quantized).max() <= largest
    assert (np.abs(quantized * scale - weight) <= scale / 2 * (1 + 1e-5)).all()


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


def test_without_statistics_weights_are_rounded_to_nearest():
    linear, _ = linear_and_inputs(20, 6)
    quantized = quantize_linear(linear, None)
    weight, scale = quantize_columns(linear.weight)
    assert np.array_equal(quantized.weight, weight)
    assert np.array_equal(quantized.scale, scale)
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


def test_the_noise_of_eight_bits_is_what_rounding_measures():
    linear, inputs = linear_and_inputs(200, 64, rows=3000)
    inputs[:, 7] *= 30
    sums = inputs @ linear.weight + 3
    seen = InputStatistics.of(inputs[:1000], sums[:1000]).joined(
        InputStatistics.of(inputs[1000:], sums[1000:])
    )
    copies = split_outliers(seen.peak, 10)
    shared = inputs / copies
    step = (shared.max() - shared.min()) / 255
    rounded = np.rint(shared / step) * step
    off = ((rounded - shared) * copies) @ linear.weight
    measured = (np.square(off).mean(axis=1) / sums.var(axis=1)).mean()
    assert noise_share(linear, seen, copies) == pytest.approx(measured, rel=0.05)
    assert noise_share(linear, InputStatistics.of(inputs), copies) == 0

    behind, _ = linear_and_inputs(64, 32, seed=1)
    last = InputStatistics.of(sums, sums @ behind.weight + 3)
    through = np.square(off @ behind.weight).mean() * last.precision / last.rows
    # An activation lets an eighth of it through.
    assert noise_share(linear, seen, copies, (behind, last)) == pytest.approx(through / 8, rel=0.1)

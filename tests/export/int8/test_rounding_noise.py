"""Estimates of rounding noise, against the noise that is there."""

from __future__ import annotations

import numpy as np
import pytest

from fastspan.export.int8.linear_layer import InputStatistics, channel_copies, quantize_linear
from fastspan.export.int8.rounding_noise import input_noise, pairing_noise
from support.models.linear_layers import linear_and_inputs, product


def test_the_noise_of_eight_bits_is_what_rounding_measures():
    linear, inputs = linear_and_inputs(200, 64, rows=3000)
    inputs[:, 7] *= 30
    sums = inputs @ linear.weight + 3
    seen = InputStatistics.of(inputs[:1000], sums[:1000]).joined(
        InputStatistics.of(inputs[1000:], sums[1000:])
    )
    copies = channel_copies(seen)
    assert copies[7] > 1
    shared = inputs / copies
    step = (shared.max() - shared.min()) / 255
    rounded = np.rint(shared / step) * step
    off = ((rounded - shared) * copies) @ linear.weight
    measured = (np.square(off).mean(axis=1) / sums.var(axis=1)).mean()
    assert input_noise(linear, seen) == pytest.approx(measured, rel=0.05)
    assert input_noise(linear, InputStatistics.of(inputs)) == 0

    behind, _ = linear_and_inputs(64, 32, seed=1)
    last = InputStatistics.of(sums, sums @ behind.weight + 3)
    through = np.square(off @ behind.weight).mean() * last.precision / last.rows
    # An activation lets an eighth of it through.
    assert input_noise(linear, seen, (behind, last)) == pytest.approx(through / 8, rel=0.1)


def test_the_noise_of_keeping_to_pairs_is_what_rounding_measures():
    linear, inputs = linear_and_inputs(256, 64, rows=3000)
    # Neighbours that are alike need steps almost twice as large.
    linear.weight[1::2] = linear.weight[0::2]
    # Inputs that are unrelated: rounding cannot make up for errors.
    inputs = np.random.default_rng(3).standard_normal(inputs.shape).astype(np.float32)
    sums = inputs @ linear.weight
    seen = InputStatistics.of(inputs, sums)
    paired, free = quantize_linear(linear, seen), quantize_linear(linear, seen, paired=False)
    exact = inputs @ linear.weight + linear.bias

    def measured(quantized):
        return (np.square(product(quantized, inputs) - exact).mean(axis=1) / sums.var(axis=1)).mean()

    found = pairing_noise(linear, seen, paired)
    assert found == pytest.approx(measured(paired) - measured(free), rel=0.1)
    assert pairing_noise(linear, seen, free) < found / 100
    assert pairing_noise(linear, InputStatistics.of(inputs), paired) == 0

"""Loud channels made quieter: the layer computes the same, and rounding a row costs less."""

from __future__ import annotations

import numpy as np

from fastspan.export.graphs.model import Linear
from fastspan.export.int8.linear_layer import BLOCK, InputStatistics
from fastspan.export.int8.prescaling import channel_factors, prescaled, with_prescaled_values
from support.models.kernel_graphs import random_encoder
from support.models.linear_layers import linear_and_inputs


def test_afterwards_inputs_and_weights_are_equally_loud():
    linear, inputs = linear_and_inputs(96, 20)
    inputs[:, 3] *= 20
    seen = InputStatistics.of(inputs)
    factors = channel_factors(linear, seen)
    np.testing.assert_allclose(np.log(factors).mean(), 0, atol=1e-5)
    quieter, after = prescaled(linear, seen, factors)
    assert np.ptp(np.log(after.peak / np.abs(quieter.weight).max(axis=1))) < 1e-3
    np.testing.assert_allclose((inputs * factors) @ quieter.weight, inputs @ linear.weight, atol=1e-3)


def test_statistics_follow():
    linear, inputs = linear_and_inputs(BLOCK + 8, 4)
    factors = channel_factors(linear, InputStatistics.of(inputs))
    found = InputStatistics.of(inputs).times(factors)
    expected = InputStatistics.of(inputs * factors)
    for field in ("low", "high", "total"):
        np.testing.assert_allclose(getattr(found, field), getattr(expected, field), rtol=1e-4, atol=1e-4)
    for one, other in zip(found.second_moments, expected.second_moments, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


def test_channels_of_which_nothing_is_known_stay_typical():
    linear, inputs = linear_and_inputs(64, 20)
    inputs[:, 3] = 0
    inputs[0, 4] = np.nan
    linear.weight[5] = 0
    inputs[:, 6] *= np.float32(1e-9)
    factors = channel_factors(linear, InputStatistics.of(inputs))
    assert (factors[3:6] == 1).all()
    assert factors.max() == factors[6] == 64
    assert np.array_equal(
        channel_factors(linear, InputStatistics.of(np.zeros_like(inputs))), np.ones(64, np.float32)
    )


def test_what_attention_puts_out_is_multiplied_in_the_values():
    layer = random_encoder().layers[0]
    factors = np.linspace(0.5, 2, 64).astype(np.float32)
    moved = with_prescaled_values(layer, factors)
    inputs = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)

    def values(linear: Linear):
        return inputs @ linear.weight + linear.bias

    np.testing.assert_allclose(values(moved.value), values(layer.value) * factors, rtol=1e-4, atol=1e-5)
    assert moved.query is layer.query

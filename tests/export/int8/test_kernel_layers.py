"""Layers rounded for the int8 kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastspan.export.graphs.model import Linear
from fastspan.export.int8.kernel_layers import (
    quantize_for_kernels,
    round_for_kernels,
    unfit_for_kernels,
)
from fastspan.export.int8.linear_layer import InputStatistics
from support.models.graph_runs import calibrated
from support.models.kernel_graphs import random_encoder
from support.models.linear_layers import linear_and_inputs


def output(layer, group, inputs):
    return inputs @ (layer.weight * np.repeat(layer.scale, group, axis=0)) + layer.bias


@pytest.mark.parametrize("group", [64, 128, 640])
def test_weights_have_a_scale_a_column_and_group(group):
    linear, inputs = linear_and_inputs(640, 12)
    layer = round_for_kernels(linear, InputStatistics.of(inputs), group)
    assert layer.weight.dtype == np.int8
    assert np.abs(layer.weight.astype(int)).max() <= 127
    assert layer.scale.shape == (640 // group, 12)
    assert layer.compensated
    exact = inputs @ linear.weight + linear.bias
    assert np.square(output(layer, group, inputs) - exact).mean() < 2e-4 * exact.var()


def test_errors_are_made_up_for():
    linear, inputs = linear_and_inputs(256, 20)
    plain = round_for_kernels(linear, None, 256)
    careful = round_for_kernels(linear, InputStatistics.of(inputs), 256)
    exact = inputs @ linear.weight + linear.bias
    errors = [np.square(output(layer, 256, inputs) - exact).mean() for layer in (careful, plain)]
    assert errors[0] < 0.8 * errors[1]


def test_the_mean_output_stays_as_it_was():
    linear, inputs = linear_and_inputs(128, 20)
    inputs = inputs + np.float32(7)
    layer = round_for_kernels(linear, InputStatistics.of(inputs), 64)
    exact = inputs @ linear.weight + linear.bias
    np.testing.assert_allclose(output(layer, 64, inputs).mean(axis=0), exact.mean(axis=0), atol=1e-3)


def test_statistics_that_are_no_numbers_round_plainly_and_say_so():
    linear, inputs = linear_and_inputs(128, 20)
    inputs[3, 5] = np.inf
    layer = round_for_kernels(linear, InputStatistics.of(inputs), 64)
    assert not layer.compensated
    blind = round_for_kernels(linear, None, 64)
    assert np.array_equal(layer.weight, blind.weight)
    assert np.isfinite(layer.bias).all()


def test_early_layers_and_the_second_layer_of_a_feed_forward_block_have_groups():
    encoder = random_encoder(hidden=128, inner=768, width=64)
    encoder = replace(encoder, layers=(*encoder.layers, encoder.layers[0]))
    ids = np.random.default_rng(2).integers(3, 60, (4, 20))
    _, layers = quantize_for_kernels(encoder, calibrated(encoder, ids, ids % 2))
    groups = {name: len(layer.scale) for name, layer in layers.items()}
    early = {"attention.projection": 2, "attention_output": 1, "intermediate": 2, "output": 6}
    late = {"attention.projection": 1, "attention_output": 1, "intermediate": 1, "output": 3}
    assert groups == {
        "embeddings.projection": 1,
        **{f"layer.{number}.{part}": count for number in (0, 1) for part, count in early.items()},
        **{f"layer.2.{part}": count for part, count in late.items()},
    }
    without = {name for name, layer in layers.items() if layer.prescale is None}
    assert without == {f"layer.{number}.attention_output" for number in range(3)}


def test_groups_are_multiples_of_64_that_divide_the_input():
    encoder = random_encoder(hidden=192, inner=320)
    _, layers = quantize_for_kernels(encoder, {})
    # 96 is no multiple of 64, and of 320's divisors only 64 is at most 128.
    assert len(layers["layer.0.intermediate"].scale) == 1
    assert len(layers["layer.0.output"].scale) == 5


def test_what_the_kernels_cannot_run_is_named():
    assert unfit_for_kernels(random_encoder()) is None
    assert "feed-forward size, 96," in unfit_for_kernels(random_encoder(inner=96))
    assert "embedding size, 32," in unfit_for_kernels(random_encoder(width=32))
    assert "hidden size, 96," in unfit_for_kernels(random_encoder(hidden=96, width=64))
    assert "heads, 8," in unfit_for_kernels(replace(random_encoder(), heads=8))
    encoder = random_encoder()
    norm = replace(encoder.embedding_norm, epsilon=1e-12)
    assert "epsilon" in unfit_for_kernels(replace(encoder, embedding_norm=norm))
    projection = Linear(np.eye(64, dtype=np.float32), np.zeros(64, np.float32))
    assert "projected" in unfit_for_kernels(replace(encoder, projection=projection))

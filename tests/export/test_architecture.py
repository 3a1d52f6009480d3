"""Checkpoints onto the encoder description, and what is refused on the way."""

from __future__ import annotations

import numpy as np
import pytest
from random_checkpoints import NATIVE, config_and_weights

from fastspan.errors import CheckpointError
from fastspan.export.architecture import describe, unsupported_reason


@pytest.mark.parametrize("family", NATIVE)
def test_every_parameter_of_the_family_is_described(family):
    config, weights = config_and_weights(family)
    encoder = describe(config, weights)
    described = sum(
        array.size
        for array in [encoder.words, encoder.positions, encoder.head.weight, encoder.head.bias]
        + ([] if encoder.segments is None else [encoder.segments])
    )
    described += encoder.embedding_norm.weight.size * 2
    if encoder.projection is not None:
        described += encoder.projection.weight.size + encoder.projection.bias.size
    for layer in encoder.layers:
        for name in ("query", "key", "value", "attention_output", "intermediate", "output"):
            linear = getattr(layer, name)
            described += linear.weight.size + linear.bias.size
        described += 2 * (layer.attention_norm.weight.size + layer.output_norm.weight.size)
    assert described == sum(array.size for array in weights.values())


def test_matrices_are_laid_out_as_they_are_multiplied():
    config, weights = config_and_weights("bert")
    encoder = describe(config, weights)
    stored = weights["bert.encoder.layer.1.intermediate.dense.weight"]
    assert np.array_equal(encoder.layers[1].intermediate.weight, stored.T)
    assert encoder.layers[1].intermediate.weight.flags.c_contiguous


def test_roberta_counts_positions_behind_padding_and_takes_no_segments():
    config, weights = config_and_weights("roberta")
    encoder = describe(config, weights)
    assert encoder.padding_id == 1
    assert encoder.max_positions == config["max_position_embeddings"] - 2
    assert encoder.segments is not None
    assert not encoder.takes_segment_ids


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "albert"}, "'albert'"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"hidden_act": "silu"}, "silu"),
        ({"pruned_heads": {"0": [1]}}, "pruned"),
    ],
)
def test_what_has_no_native_lowering_says_why(change, reason):
    config, weights = config_and_weights("bert")
    assert unsupported_reason(config) is None
    assert reason in unsupported_reason(config | change)
    with pytest.raises(CheckpointError, match="cannot be lowered natively"):
        describe(config | change, weights)


def test_a_missing_tensor_is_named():
    config, weights = config_and_weights("bert")
    del weights["bert.encoder.layer.0.output.dense.bias"]
    with pytest.raises(CheckpointError, match=r"no tensor 'bert\.encoder\.layer\.0\.output\.dense\.bias'"):
        describe(config, weights)


def test_a_shape_that_contradicts_the_configuration_is_named():
    config, weights = config_and_weights("bert")
    with pytest.raises(CheckpointError, match=r"is 48×32, but config\.json says 64×32"):
        describe(config | {"intermediate_size": 64}, weights)


@pytest.mark.parametrize("change", [{"num_attention_heads": 5}, {"num_attention_heads": 0}])
def test_heads_that_do_not_divide_the_hidden_size(change):
    config, weights = config_and_weights("bert")
    with pytest.raises(CheckpointError, match="heads"):
        describe(config | change, weights)


def test_a_configuration_without_sizes():
    config, weights = config_and_weights("bert")
    del config["hidden_size"]
    with pytest.raises(CheckpointError, match="hidden_size"):
        describe(config, weights)

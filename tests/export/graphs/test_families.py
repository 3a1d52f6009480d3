"""Checkpoints onto the encoder description, and what is refused on the way."""

from __future__ import annotations

import numpy as np
import pytest

from fastspan.errors import CheckpointError
from fastspan.export.graphs.families import describe, unsupported_reason
from support.models.random_models import NATIVE, config_and_weights


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


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("bert", {"layer_norm_eps": None}, "layer_norm_eps must be a small number such as 1e-12, not None"),
        ("bert", {"layer_norm_eps": "1e-12"}, "layer_norm_eps must be a small number .* not '1e-12'"),
        ("bert", {"layer_norm_eps": float("nan")}, "layer_norm_eps must be a small number .* not nan"),
        ("bert", {"hidden_act": ["gelu"]}, r"hidden_act must be a text, not \['gelu'\]"),
        ("bert", {"hidden_act": None}, "hidden_act must be a text, not None"),
        ("distilbert", {"activation": {}}, "activation must be a text, not {}"),
        ("bert", {"model_type": ["bert"]}, r"model_type must be a text, not \['bert'\]"),
        ("bert", {"hidden_size": None}, "hidden_size must be a whole number of at least 1, not None"),
        ("bert", {"num_hidden_layers": 1.5}, "num_hidden_layers must be a whole number .* not 1.5"),
        ("bert", {"intermediate_size": True}, "intermediate_size must be a whole number .* not True"),
        ("bert", {"num_attention_heads": 5}, "hidden size 32 cannot be split into 5 heads"),
        ("distilbert", {"dim": "32"}, "dim must be a whole number .* not '32'"),
        ("electra", {"embedding_size": None}, "embedding_size must be a whole number"),
        ("roberta", {"pad_token_id": None}, "pad_token_id must be a whole number of at least 0, not None"),
        ("roberta", {"pad_token_id": 65}, "pad_token_id 65 leaves none of the checkpoint's 66 positions"),
        ("bert", {"intermediate_size": 64}, "says 64×32"),
    ],
)
def test_a_configuration_that_makes_no_sense_names_the_key_and_the_way_on(family, change, message):
    config, weights = config_and_weights(family)
    with pytest.raises(CheckpointError, match=f"{message}.*: mend config.json, or copy or download"):
        describe(config | change, weights)


def test_whole_numbers_may_be_written_as_floats():
    config, weights = config_and_weights("bert")
    assert describe(config | {"hidden_size": 32.0}, weights).hidden_size == 32


@pytest.mark.parametrize(("family", "segments"), [("bert", 1), ("electra", 1), ("bert", 2)])
def test_segment_ids_are_taken_where_there_are_two_segments(family, segments):
    config, weights = config_and_weights(family)
    name = f"{family}.embeddings.token_type_embeddings.weight"
    encoder = describe(config | {"type_vocab_size": segments}, weights | {name: weights[name][:segments]})
    assert encoder.takes_segment_ids is (segments > 1)
    assert encoder.segments is not None

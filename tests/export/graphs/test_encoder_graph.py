"""Every native graph against PyTorch, on random models of every family."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from fastspan.benchmarks.studies.graphs.ablation_graphs import GatheredCopies
from fastspan.export.graphs.builder import IR_VERSION, OPSET, GraphBuilder, WeightFile
from fastspan.export.graphs.encoder_graph import Lowering
from fastspan.export.graphs.families import describe
from fastspan.export.graphs.float_graphs import CpuLowering, HalfLowering
from fastspan.export.graphs.model import Linear
from fastspan.export.int8.graph import Int8Lowering
from fastspan.export.int8.recipe import quantize_encoder
from support.models.graph_runs import calibrated, run, segments_for, session, tokens
from support.models.random_models import NATIVE, config_and_weights, reference_logits


@pytest.mark.parametrize("family", NATIVE)
@pytest.mark.parametrize("lowering", [Lowering, CpuLowering])
def test_fp32_logits_equal_pytorchs(golden, family, lowering):
    encoder = describe(*config_and_weights(family))
    graph = session(lowering(encoder).lower())
    rng = np.random.RandomState(0)
    for batch, length in ((1, 1), (1, 2), (3, 17), (2, encoder.max_positions)):
        ids = tokens(rng, batch, length)
        segments = segments_for(encoder, ids)
        got = run(graph, ids, segments=segments, mask=np.ones_like(ids))
        expected = reference_logits(golden, family, ids, segments=segments)
        for mine, theirs in zip(got, expected, strict=True):
            assert mine.shape == (batch, length)
            assert mine.dtype == np.float32
            assert length < 17 or np.ptp(theirs) > 0.1
            np.testing.assert_allclose(mine, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("lowering", [Lowering, CpuLowering])
def test_activations(golden, activation, lowering):
    encoder = describe(*config_and_weights("bert", activation))
    ids = tokens(np.random.RandomState(1), 2, 9)
    segments = segments_for(encoder, ids)
    got = run(session(lowering(encoder).lower()), ids, segments=segments, mask=np.ones_like(ids))
    expected = reference_logits(golden, "bert", ids, segments=segments, activation=activation)
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", NATIVE)
@pytest.mark.parametrize(("lowering", "tolerance"), [(Lowering, 1e-4), (HalfLowering, 0.05)])
def test_padding_changes_nothing(golden, family, lowering, tolerance):
    encoder = describe(*config_and_weights(family))
    graph = session(lowering(encoder).lower())
    rng = np.random.RandomState(2)
    lengths = (21, 5, 1)
    ids = np.full((len(lengths), max(lengths)), encoder.padding_id or 0)
    mask = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = tokens(rng, 1, length)
        mask[row, :length] = 1
    segments = segments_for(encoder, ids)
    padded = run(graph, ids, segments=segments, mask=mask)
    for row, length in enumerate(lengths):
        alone = ids[row : row + 1, :length]
        alone_segments = None if segments is None else segments[row : row + 1, :length]
        expected = reference_logits(golden, family, alone, segments=alone_segments)
        for mine, theirs in zip(padded, expected, strict=True):
            np.testing.assert_allclose(mine[row, :length], theirs[0], atol=tolerance, rtol=0)


def test_a_padding_token_inside_the_text_is_numbered_as_roberta_numbers_it(golden):
    encoder = describe(*config_and_weights("roberta"))
    ids = tokens(np.random.RandomState(3), 1, 12)
    ids[0, 5] = encoder.padding_id
    for lowering in (Lowering, CpuLowering):
        got = run(session(lowering(encoder).lower()), ids, mask=np.ones_like(ids))
        for mine, theirs in zip(got, reference_logits(golden, "roberta", ids), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-4, rtol=0)


def test_half_precision_keeps_weights_in_half_and_answers_in_single(golden):
    encoder = describe(*config_and_weights("bert"))
    model = HalfLowering(encoder).lower()
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["layer.0.intermediate.weight"] == onnx.TensorProto.FLOAT16
    assert kinds["head.weight"] == onnx.TensorProto.FLOAT
    assert {value.type.tensor_type.elem_type for value in model.graph.output} == {onnx.TensorProto.FLOAT}
    ids = tokens(np.random.RandomState(4), 2, 15)
    segments = segments_for(encoder, ids)
    got = run(session(model), ids, segments=segments, mask=np.ones_like(ids))
    for mine, theirs in zip(got, reference_logits(golden, "bert", ids, segments=segments), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=0.05, rtol=0)


def int8_session(encoder, quantized, lowering=Int8Lowering):
    return session(lowering(encoder, quantized).lower())


class FloatInputs(Int8Lowering):
    """The same rounded weights under inputs that are not rounded."""

    def linear(self, name, linear, rows):
        if name not in self.quantized:
            return super().linear(name, linear, rows)
        quantized = self.quantized[name]
        size = len(quantized.copies)
        parts = np.ones(size) if quantized.divided else quantized.copies
        weight = quantized.weight[:size] / parts[:, None]
        np.add.at(weight, quantized.extra, (quantized.weight[size:] / parts[quantized.extra, None]))
        return Lowering.linear(
            self, name, Linear((weight * quantized.scale).astype(np.float32), quantized.bias), rows
        )


def test_int8_stays_near_and_is_exact_on_this_cpu(golden):
    encoder = describe(*config_and_weights("bert"))
    rng = np.random.RandomState(5)
    ids = tokens(rng, 8, 24)
    segments = segments_for(encoder, ids)
    quantized = quantize_encoder(encoder, calibrated(encoder, ids, segments))
    # Weights that are stored as u8 never saturate.
    unsigned = {name: replace(layer, paired=False) for name, layer in quantized.items()}
    found, exact = int8_session(encoder, quantized), int8_session(encoder, unsigned)
    ids = tokens(rng, 8, 24)
    segments = segments_for(encoder, ids)
    off, expected = [], []
    for row, segment in zip(ids[:, None], segments[:, None], strict=True):
        mine = np.concatenate(run(found, row, segments=segment))
        assert np.array_equal(mine, np.concatenate(run(exact, row, segments=segment)))
        expected.append(np.concatenate(reference_logits(golden, "bert", row, segments=segment)))
        off.append(mine - expected[-1])
    assert np.std(off) < 0.055 * np.std(expected)


def test_a_layer_kept_in_fp32_has_no_integers():
    encoder = describe(*config_and_weights("bert"))
    quantized = quantize_encoder(encoder, {}, keep=["layer.1.output"])
    model = Int8Lowering(encoder, quantized).lower()
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["layer.1.output.weight"] == onnx.TensorProto.FLOAT
    assert kinds["layer.0.output.weight"] == onnx.TensorProto.INT8


def test_a_layer_that_is_quantized_alone_has_its_input_in_order(golden):
    encoder = describe(*config_and_weights("bert"))
    rng = np.random.RandomState(9)
    ids = tokens(rng, 8, 24)
    segments = segments_for(encoder, ids)
    name = "layer.0.output"
    statistics = calibrated(encoder, ids, segments)[name]
    high = statistics.high.copy()
    high[3] = 50
    layer = quantize_encoder(encoder, {name: replace(statistics, high=high)})[name]
    assert layer.order[-1] == 3
    found = run(int8_session(encoder, {name: layer}), ids, segments=segments)
    for mine, theirs in zip(found, reference_logits(golden, "bert", ids, segments=segments), strict=True):
        assert np.abs(mine - theirs).max() < 0.05 * np.abs(theirs).max()


def test_split_channels_leave_the_product_unchanged(golden):
    encoder = describe(*config_and_weights("bert"))
    rng = np.random.RandomState(6)
    ids = tokens(rng, 8, 24)
    segments = segments_for(encoder, ids)
    seen = calibrated(encoder, ids, segments)
    loud = {}
    for name, statistics in seen.items():
        high = statistics.high.copy()
        high[3] = 50
        loud[name] = replace(statistics, high=high)
    quantized = quantize_encoder(encoder, loud)
    assert all(set(layer.order[layer.extra]) == {3} for layer in quantized.values())
    got = run(int8_session(encoder, quantized), ids, segments=segments)
    for mine, theirs in zip(got, reference_logits(golden, "bert", ids, segments=segments), strict=True):
        assert np.abs(mine - theirs).max() < 0.1 * np.abs(theirs).max()


def test_a_second_pass_takes_the_noise_of_rounding_the_input_away():
    encoder = describe(*config_and_weights("bert"))
    rng = np.random.RandomState(7)
    ids = tokens(rng, 8, 24)
    segments = segments_for(encoder, ids)
    once = quantize_encoder(encoder, calibrated(encoder, ids, segments), second_pass_share=0)
    assert {layer.passes for layer in once.values()} == {1}
    twice = {name: replace(layer, passes=2) for name, layer in once.items()}
    exact = run(session(FloatInputs(encoder, once).lower()), ids, segments=segments)

    def error(quantized):
        got = run(int8_session(encoder, quantized), ids, segments=segments)
        return max(np.abs(a - b).max() for a, b in zip(got, exact, strict=True))

    assert error(twice) < error(once) / 50


def test_the_noisiest_layers_run_twice_as_far_as_that_is_affordable():
    encoder = describe(*config_and_weights("bert"))
    rng = np.random.RandomState(8)
    ids = tokens(rng, 8, 24)
    seen = dict(calibrated(encoder, ids, segments_for(encoder, ids)))
    for name, factor in (("layer.0.output", 40), ("layer.1.output", 80)):
        # One loud channel can be split; loud channels all over cannot.
        seen[name] = replace(seen[name], low=seen[name].low * factor, high=seen[name].high * factor)
    total = sum(layer.weight.size for layer in quantize_encoder(encoder, seen).values())

    def twice(share):
        quantized = quantize_encoder(encoder, seen, second_pass_share=share)
        return [name for name, layer in quantized.items() if layer.passes == 2]

    one = quantize_encoder(encoder, seen)["layer.1.output"].weight.size / total
    assert twice(one * 1.01) == ["layer.1.output"]
    assert twice(one * 0.99) == []
    assert twice(one * 2.2) == ["layer.0.output", "layer.1.output"]


@pytest.mark.parametrize("family", NATIVE)
@pytest.mark.parametrize("lowering", [Lowering, CpuLowering, HalfLowering])
def test_the_checker_passes_and_versions_are_stated(family, lowering):
    model = lowering(describe(*config_and_weights(family))).lower()
    onnx.checker.check_model(model, full_check=lowering is Lowering)
    versions = {imported.domain: imported.version for imported in model.opset_import}
    assert versions[""] == OPSET
    assert model.ir_version == IR_VERSION


def test_the_interchange_graph_is_made_of_standard_operators():
    model = Lowering(describe(*config_and_weights("bert"))).lower()
    assert {node.domain for node in model.graph.node} == {""}
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    for value in [*model.graph.input, *model.graph.output]:
        assert [dim.dim_param for dim in value.type.tensor_type.shape.dim] == ["batch", "length"]


def test_two_graphs_share_one_weight_file(tmp_path):
    encoder = describe(*config_and_weights("bert"))
    with WeightFile(tmp_path / "w") as weights:
        first = Lowering(encoder, weights).lower()
        weights.flush()
        size = (tmp_path / "w").stat().st_size
        second = CpuLowering(encoder, weights).lower()
    assert (tmp_path / "w").stat().st_size == size
    ids = tokens(np.random.RandomState(7), 1, 9)
    segments = segments_for(encoder, ids)
    outputs = []
    for name, model in (("a.onnx", first), ("b.onnx", second)):
        (tmp_path / name).write_bytes(model.SerializeToString())
        outputs.append(run(session(str(tmp_path / name)), ids, segments=segments, mask=np.ones_like(ids)))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)


def test_external_tensors_start_on_a_page(tmp_path):
    with WeightFile(tmp_path / "w") as weights:
        builder = GraphBuilder(weights)
        builder.constant("a", np.arange(1000, dtype=np.float32))
        builder.constant("b", np.arange(2000, dtype=np.int8))
        builder.constant("small", np.zeros(3, np.float32))
        assert weights.place("b", np.arange(2000, dtype=np.int8)) == (4096, 2000)
    assert (tmp_path / "w").stat().st_size == 4096 + 2000


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("loudness", [(50,), (50, 40, 8, 8, 5), (900, 800)])
def test_channels_split_by_the_layer_before_are_the_same_to_the_last_bit(loudness, passes):
    encoder = describe(*config_and_weights("bert"))
    rng = np.random.RandomState(8)
    ids = tokens(rng, 8, 24)
    segments = segments_for(encoder, ids)
    loud = {}
    for number, (name, statistics) in enumerate(calibrated(encoder, ids, segments).items()):
        high = statistics.high.copy()
        high[[3 + (7 * number + 5 * place) % 24 for place in range(len(loudness))]] = loudness
        loud[name] = replace(statistics, high=high)
    quantized = {
        name: replace(layer, passes=passes)
        for name, layer in quantize_encoder(encoder, loud, second_pass_share=0).items()
    }
    found = []
    for lowering in (GatheredCopies, Int8Lowering):
        found.append(run(int8_session(encoder, quantized, lowering), ids, segments=segments))
    for before, after in zip(*found, strict=True):
        # Only values come divided by another way: their scales are, rounded once more.
        assert np.abs(before - after).max() <= 2e-6 * np.abs(before).max()
    arranged = Int8Lowering(encoder, quantized).quantized
    output = arranged["layer.0.output"]
    assert output.tails
    assert list(output.copies) == sorted(output.copies)
    assert arranged["layer.0.attention_output"].divided
    assert arranged["layer.0.intermediate"].tails == ()

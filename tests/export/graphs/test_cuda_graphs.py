"""The CUDA graphs on a CPU: the one in ONNX Runtime, the packed one in a reference evaluator."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from fastspan.export import native_route
from fastspan.export.graphs.builder import WeightFile
from fastspan.export.graphs.cuda_graphs import CudaLowering, PackedCudaLowering
from fastspan.export.graphs.encoder_graph import Lowering
from fastspan.export.graphs.families import describe
from fastspan.export.graphs.float_graphs import HalfLowering
from fastspan.runtime.graph_inputs import pack
from fastspan.text.encoder import Window
from support.models.graph_runs import run, segments_for, session, tokens
from support.models.random_models import NATIVE, config_and_weights


class Exact32(CudaLowering):
    dtype = np.float32


class Packed32(PackedCudaLowering):
    dtype = np.float32


# ONNX Runtime's own operators, written down from their definitions. ReferenceEvaluator has none of them.


class PackedMultiHeadAttention(OpRun):
    op_domain = "com.microsoft"

    def _run(self, query, key, value, bias, token_offset, cumulative, num_heads):
        assert bias is None
        assert token_offset.dtype == cumulative.dtype == np.int32
        windows, longest = token_offset.shape
        assert cumulative.shape == (windows + 1,)
        assert cumulative[0] == 0
        assert cumulative[-1] == len(query)
        assert np.array_equal(np.sort(token_offset, axis=None), np.arange(token_offset.size))
        out = np.zeros_like(value)
        size = query.shape[1] // num_heads
        for window, (begin, end) in enumerate(itertools.pairwise(cumulative)):
            assert end - begin <= longest
            if begin == end:
                continue
            offsets = token_offset.ravel()[begin:end]
            assert np.array_equal(offsets, window * longest + np.arange(end - begin))
            q, k, v = (
                rows[begin:end].reshape(-1, num_heads, size).transpose(1, 0, 2)
                for rows in (query, key, value)
            )
            scores = q @ k.transpose(0, 2, 1) / np.sqrt(size)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
            weights /= weights.sum(axis=-1, keepdims=True)
            out[begin:end] = (weights @ v).transpose(1, 0, 2).reshape(end - begin, -1)
        return (out.astype(query.dtype),)


class CumSum(OpRun):
    def _run(self, values, axis, exclusive, reverse):
        assert not exclusive
        assert not reverse
        # onnx's own wants the axis as a scalar; runtimes take a vector of one as well.
        return (np.cumsum(values, axis=int(np.squeeze(axis)), dtype=values.dtype),)


class SkipLayerNormalization(OpRun):
    op_domain = "com.microsoft"

    def _run(self, rows, skip, gamma, beta, bias, epsilon):
        total = (rows + skip + bias).astype(np.float32)
        centred = total - total.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
        return ((centred / scale * gamma + beta).astype(rows.dtype),)


class FusedMatMul(OpRun):
    op_domain = "com.microsoft"

    def _run(self, left, right):
        return (left @ right,)


class BiasGelu(OpRun):
    op_domain = "com.microsoft"

    def _run(self, rows, bias):
        from math import erf

        x = rows + bias
        return ((x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))).astype(rows.dtype),)


def evaluator(model):
    return ReferenceEvaluator(
        model, new_ops=[PackedMultiHeadAttention, SkipLayerNormalization, FusedMatMul, BiasGelu, CumSum]
    )


def windows_of(encoder, lengths, seed=0):
    rng = np.random.RandomState(seed)
    found = []
    for length in lengths:
        ids = tokens(rng, 1, length)
        segments = segments_for(encoder, ids)
        found.append(Window(ids[0], np.zeros_like(ids[0]) if segments is None else segments[0], 0, 0, 0))
    return found


def alone(graph, encoder, window):
    segments = window.type_ids[None] if encoder.takes_segment_ids else None
    ids = window.input_ids[None]
    return run(graph, ids, segments=segments, mask=np.ones_like(ids))


@pytest.mark.parametrize("family", NATIVE)
def test_the_exact_graph_computes_what_the_interchange_graph_does(family):
    encoder = describe(*config_and_weights(family))
    interchange, exact = session(Lowering(encoder).lower()), session(Exact32(encoder).lower())
    rng = np.random.RandomState(0)
    for batch, length in ((1, 1), (3, 17), (2, encoder.max_positions)):
        ids = tokens(rng, batch, length)
        segments = segments_for(encoder, ids)
        expected = run(interchange, ids, segments=segments, mask=np.ones_like(ids))
        for mine, theirs in zip(run(exact, ids, segments=segments), expected, strict=True):
            assert mine.shape == (batch, length)
            assert length < 17 or np.ptp(theirs) > 0.1
            np.testing.assert_allclose(mine, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_activations_with_the_bias_inside(activation):
    encoder = describe(*config_and_weights("bert", activation))
    ids = tokens(np.random.RandomState(1), 2, 9)
    segments = segments_for(encoder, ids)
    expected = run(session(Lowering(encoder).lower()), ids, segments=segments, mask=np.ones_like(ids))
    got = run(session(Exact32(encoder).lower()), ids, segments=segments)
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", NATIVE)
def test_packed_windows_have_the_logits_they_have_alone(family):
    encoder = describe(*config_and_weights(family))
    interchange, packed = session(Lowering(encoder).lower()), evaluator(Packed32(encoder).lower())
    windows = windows_of(encoder, (17, 1, encoder.max_positions, 5))
    batch = pack(windows)
    names = packed.input_names
    logits = packed.run(["start_logits", "end_logits"], {name: batch.feeds[name] for name in names})
    for side, unpacked in enumerate(map(batch.unpack, logits)):
        assert unpacked.shape == (4, encoder.max_positions)
        for row, window in enumerate(windows):
            expected = alone(interchange, encoder, window)[side][0]
            np.testing.assert_allclose(unpacked[row, : len(expected)], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("length", [1, 20, 31, 32])
def test_a_bucket_changes_nothing(length):
    encoder = describe(*config_and_weights("bert"))
    interchange, packed = session(Lowering(encoder).lower()), evaluator(Packed32(encoder).lower())
    (window,) = windows_of(encoder, (length,))
    batch = pack([window], bucket=32)
    logits = packed.run(["start_logits", "end_logits"], batch.feeds)
    for mine, theirs in zip(map(batch.unpack, logits), alone(interchange, encoder, window), strict=True):
        assert mine.shape == (1, length)
        np.testing.assert_allclose(mine, theirs, atol=1e-4, rtol=0)


def test_a_padding_token_inside_a_packed_text_is_numbered_as_roberta_numbers_it():
    encoder = describe(*config_and_weights("roberta"))
    interchange, packed = session(Lowering(encoder).lower()), evaluator(Packed32(encoder).lower())
    windows = windows_of(encoder, (9, 12))
    for window in windows:
        window.input_ids[5] = encoder.padding_id
    batch = pack(windows)
    feeds = {name: batch.feeds[name] for name in packed.input_names}
    for side, unpacked in enumerate(map(batch.unpack, packed.run(["start_logits", "end_logits"], feeds))):
        for row, window in enumerate(windows):
            expected = alone(interchange, encoder, window)[side][0]
            np.testing.assert_allclose(unpacked[row, : len(expected)], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", NATIVE)
@pytest.mark.parametrize("lowering", [CudaLowering, PackedCudaLowering])
def test_the_checker_passes_and_the_precision_is_half_but_for_the_head(family, lowering):
    model = lowering(describe(*config_and_weights(family))).lower()
    onnx.checker.check_model(model)
    floats = {
        tensor.name: tensor.data_type
        for tensor in model.graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    }
    single = {name for name, kind in floats.items() if kind == onnx.TensorProto.FLOAT}
    assert single == {"head.weight", "head.bias"}
    assert {value.type.tensor_type.elem_type for value in model.graph.output} == {onnx.TensorProto.FLOAT}
    assert "attention_mask" not in {value.name for value in model.graph.input}


def test_the_packed_graph_asks_the_host_for_nothing():
    model = PackedCudaLowering(describe(*config_and_weights("bert"))).lower()
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"Shape", "Size", "Range", "NonZero", "RemovePadding", "If", "Loop"}
    inputs = {value.name: value.type.tensor_type for value in model.graph.input}
    assert set(inputs) == {
        "input_ids",
        "token_type_ids",
        "position_ids",
        "token_offset",
        "cumulative_sequence_length",
    }
    assert {kind.elem_type for kind in inputs.values()} == {onnx.TensorProto.INT32}
    for value in model.graph.output:
        assert [dim.dim_param for dim in value.type.tensor_type.shape.dim] == ["tokens"]


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_the_packed_graph_has_no_gemm_and_onnx_runtime_makes_none(tmp_path, activation):
    model = Packed32(describe(*config_and_weights("bert", activation))).lower()
    # A CPU has no packed attention; any operator of the same shapes lets it optimize what lies around it.
    for node in model.graph.node:
        if node.op_type == "PackedMultiHeadAttention":
            node.CopyFrom(onnx.helper.make_node("Sum", node.input[:3], node.output, name=node.name))
    taken = {name for node in model.graph.node for name in node.input}
    unread = [value for value in model.graph.input if value.name not in taken]
    for value in unread:
        model.graph.input.remove(value)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for found in (model, onnx.load(tmp_path / "optimized.onnx")):
        kinds = {node.op_type for node in found.graph.node}
        assert "FusedMatMul" in kinds
        assert not any("Gemm" in kind for kind in kinds)


def test_the_exact_graph_in_half_precision_stays_near():
    encoder = describe(*config_and_weights("bert"))
    ids = tokens(np.random.RandomState(4), 2, 15)
    segments = segments_for(encoder, ids)
    expected = run(session(Lowering(encoder).lower()), ids, segments=segments, mask=np.ones_like(ids))
    got = run(session(CudaLowering(encoder).lower()), ids, segments=segments)
    np.testing.assert_allclose(got, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("family", NATIVE)
def test_onnx_runtime_takes_the_packed_graphs_types_and_shapes(family):
    model = PackedCudaLowering(describe(*config_and_weights(family))).lower()
    onnx.shape_inference.infer_shapes(model, strict_mode=True)
    # A CPU has no kernel for packed attention. That is found out last, when all types and shapes have held.
    with pytest.raises(Exception, match=r"NOT_IMPLEMENTED.*PackedMultiHeadAttention\(1\)"):
        session(model)


def test_three_fp16_graphs_read_one_file_and_two_of_them_nearly_the_same_bytes(tmp_path):
    encoder = describe(*config_and_weights("bert"))
    with WeightFile(tmp_path / "w") as weights:
        sizes = []
        for lowering in (HalfLowering, CudaLowering, PackedCudaLowering):
            lowering(encoder, weights).lower()
            weights.flush()
            sizes.append((tmp_path / "w").stat().st_size)
    assert sizes[0] == sizes[1] == sizes[2]  # the biases that differ are small enough to lie in the graphs


def test_a_bundle_gets_both_cuda_graphs_and_packed_is_the_one_that_cuda_runs(tmp_path):
    (tmp_path / "onnx").mkdir()
    variant = native_route.fp16_variant(describe(*config_and_weights("bert")), tmp_path / "onnx")
    assert [(graph.target, graph.layout) for graph in variant.graphs] == [
        ("any", "padded"),
        ("cuda", "packed"),
        ("cuda", "exact"),
    ]
    assert {graph.data for graph in variant.graphs} == {("onnx/model_fp16.onnx_data",)}
    assert variant.graph_for("cuda").layout == "packed"
    assert set(variant.graph_for("cuda").inputs) == set(pack([Window(*np.ones((2, 3)), 0, 0, 0)]).feeds)
    # TensorRT knows standard operators alone.
    assert variant.graph_for("other").layout == variant.graph_for("cpu").layout == "padded"
    for graph in variant.graphs:
        onnx.checker.check_model(str(tmp_path / graph.file))


def test_no_bias_is_lost():
    """Each bias of a layer moves the logits as much as it moves those of the interchange graph."""
    config, weights = config_and_weights("bert")
    ids = tokens(np.random.RandomState(2), 1, 12)
    for part in ("self.query", "self.key", "self.value", "output.dense"):
        changed = dict(weights)
        name = f"bert.encoder.layer.0.attention.{part}.bias"
        changed[name] = changed[name] + np.linspace(-2, 2, len(changed[name]), dtype=np.float32)
        encoder = describe(config, changed)
        segments = segments_for(encoder, ids)
        expected = run(session(Lowering(encoder).lower()), ids, segments=segments, mask=np.ones_like(ids))
        got = run(session(Exact32(encoder).lower()), ids, segments=segments)
        np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)

"""The graph for the int8 kernels, run by the operator's definition, against the fp32 graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from fastspan.export.graphs.builder import WeightFile
from fastspan.export.graphs.encoder_graph import Lowering
from fastspan.export.int8.graph import Int8Lowering
from fastspan.export.int8.kernel_graph import kernel_graph
from fastspan.export.int8.kernel_layers import quantize_for_kernels
from fastspan.export.int8.rounding import word_codes
from support.models.graph_runs import calibrated, run, session
from support.models.kernel_graphs import attributes_of, random_encoder, run_operator, with_its_layers

KINDS = {
    "bert": {},
    "distilbert": {"segments": "none", "activation": "relu"},
    "electra-small": {"width": 128, "activation": "gelu_tanh"},
    "roberta": {"segments": "one", "padding_id": 1},
}


def windows_for(encoder):
    rng = np.random.default_rng(3)
    windows = [rng.integers(3, 60, length) for length in (1, 9, 24)]
    windows[1][4] = 1  # padding's id, which RoBERTa's positions skip
    return windows, [np.arange(len(window)) % 2 for window in windows]


def made(encoder):
    ids = np.random.default_rng(2).integers(3, 60, (6, 24))
    seen = calibrated(encoder, ids, np.tile(np.arange(24) % 2, (6, 1)))
    return quantize_for_kernels(encoder, seen)


def fp32_logits(encoder, windows, types):
    graph = session(Lowering(encoder).lower())
    found = [
        run(graph, ids[None], segments=kinds[None], mask=np.ones_like(ids)[None])
        for ids, kinds in zip(windows, types, strict=True)
    ]
    return np.stack([np.concatenate([each[side][0] for each in found]) for side in (0, 1)])


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_its_weights_stand_for(kind):
    encoder = random_encoder(**KINDS[kind])
    moved, layers = made(encoder)
    graph = kernel_graph(moved, layers)
    windows, types = windows_for(encoder)
    found = run_operator(graph, windows, types, rounding=False)
    expected = fp32_logits(with_its_layers(moved, layers), windows, types)
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_hardly_changes_the_logits(kind):
    errors = []
    for seed in range(5):
        encoder = random_encoder(seed=seed, **KINDS[kind])
        # Words are stored as codes here as in the plain graph; it is the layers' rounding that is judged.
        codes, scales = word_codes(encoder.words)
        encoder = replace(encoder, words=codes * scales)
        windows, types = windows_for(encoder)
        expected = fp32_logits(encoder, windows, types)
        # Without statistics nothing is centred, prescaled or made up for.
        for graph in (made(encoder), quantize_for_kernels(encoder, {})):
            found = run_operator(kernel_graph(*graph), windows, types)
            errors.append(np.sqrt(np.square(found - expected).mean()) / expected.std())
    with_statistics, blind = np.median(errors[::2]), np.median(errors[1::2])
    assert with_statistics < 0.02
    assert with_statistics < blind < 0.3


def test_its_inputs_and_attributes_are_those_of_the_format():
    encoder = random_encoder(segments="one", padding_id=1)
    graph = kernel_graph(*made(encoder))
    assert [each.name for each in graph.graph.input] == ["input_ids", "cumulative_sequence_length"]
    assert [each.name for each in graph.graph.output] == ["start_logits", "end_logits"]
    assert attributes_of(graph) == {
        "heads": 2,
        "layers": 2,
        "epsilon": np.float32(1e-6),
        "padding_id": 1,
        "segments": 0,
        "activation": "gelu",
        "asymmetric": 31,
        "prescaled": 29,
    }
    assert {(each.domain, each.version) for each in graph.opset_import} == {("", 17), ("fastspan", 1)}


def test_embedding_tables_are_read_from_the_plain_graphs_file(tmp_path):
    encoder = random_encoder()
    moved, layers = made(encoder)
    with WeightFile(tmp_path / "model_int8.onnx_data") as tables:
        Int8Lowering(encoder, {}, tables).lower()
    size = tables.path.stat().st_size
    with WeightFile(tmp_path / "kernels.onnx_data") as weights:
        graph = kernel_graph(moved, layers, weights, tables)
    assert tables.path.stat().st_size == size
    (tmp_path / "kernels.onnx").write_bytes(graph.SerializeToString())
    onnx.checker.check_model(str(tmp_path / "kernels.onnx"))
    loaded = onnx.load(tmp_path / "kernels.onnx")
    windows, types = windows_for(encoder)
    found = run_operator(loaded, windows, types)
    assert np.array_equal(found, run_operator(kernel_graph(moved, layers), windows, types))

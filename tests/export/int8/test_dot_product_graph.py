"""The plain int8 graph's twin for CPUs with an 8-bit dot product: the same bits out of the same file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import SilentProgress

from fastspan import QuestionAnswerer
from fastspan.bundle.folder import Bundle
from fastspan.export import options
from fastspan.export.exporter import export
from fastspan.export.graphs.builder import WeightFile
from fastspan.export.graphs.families import describe
from fastspan.export.int8.graph import DotProductLowering, Int8Lowering
from fastspan.export.int8.recipe import Int8Recipe, quantize_encoder
from fastspan.export.verification import checks
from fastspan.machine.cpu import CpuFeatures
from support.forced_cpu import forced_features
from support.models.graph_runs import calibrated, run, segments_for, session, tokens
from support.models.random_models import config_and_weights

TWIN = "onnx/model_int8_dot_product.onnx"
VNNI = CpuFeatures("x86_64", frozenset({"avx2", "avx512_vnni"}))
AVX2 = CpuFeatures("x86_64", frozenset({"avx2"}))


@pytest.fixture(scope="module")
def model():
    """An encoder, its layers as u8, and windows. Pairs keep to the limit: as s8 none saturates anywhere."""
    encoder = describe(*config_and_weights("bert"))
    ids = tokens(np.random.RandomState(5), 8, 24)
    segments = segments_for(encoder, ids)
    layers = quantize_encoder(encoder, calibrated(encoder, ids, segments))
    return encoder, {name: replace(layer, paired=False) for name, layer in layers.items()}, ids, segments


def test_both_graphs_give_the_same_bits_out_of_one_file(model, tmp_path):
    encoder, layers, ids, segments = model
    graphs = {}
    with WeightFile(tmp_path / "weights") as weights:
        for lowering in (Int8Lowering, DotProductLowering):
            path = tmp_path / f"{lowering.__name__}.onnx"
            path.write_bytes(lowering(encoder, layers, weights).lower().SerializeToString())
            weights.flush()
            graphs[lowering] = (session(str(path)), (tmp_path / "weights").stat().st_size)
    (plain, before), (twin, after) = graphs[Int8Lowering], graphs[DotProductLowering]
    assert before == after > 0, "the twin's weights are the other's"
    for row, segment in zip(ids[:, None], segments[:, None], strict=True):
        for mine, theirs in zip(*(run(each, row, segments=segment) for each in (plain, twin)), strict=True):
            assert mine.tobytes() == theirs.tobytes()


def test_the_twin_multiplies_s8_alone_and_before_it_runs(model, tmp_path):
    encoder, layers, *_ = model
    made = DotProductLowering(encoder, layers).lower()
    assert not any("zero_points" in tensor.name for tensor in made.graph.initializer)
    ort = pytest.importorskip("onnxruntime")
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.optimized_model_filepath = str(tmp_path / "as-loaded.onnx")
    ort.InferenceSession(made.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "as-loaded.onnx").graph
    kinds = {tensor.name: tensor.data_type for tensor in loaded.initializer}
    products = [
        node for node in loaded.node if node.op_type in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul")
    ]
    assert len(products) >= len(layers)
    for node in products:
        # A constant: what is made out of u8 is made when the graph is loaded.
        assert kinds[node.input[1]] == onnx.TensorProto.INT8


def test_layers_that_keep_to_the_limit_stay_as_they_are(model):
    encoder, layers, *_ = model
    paired = {name: replace(layer, paired=True) for name, layer in layers.items()}
    plain, twin = (lowering(encoder, paired).lower() for lowering in (Int8Lowering, DotProductLowering))
    assert twin.graph == plain.graph


@pytest.fixture(scope="module")
def bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle some of whose layers are stored as u8."""

    def quantize(self, encoder, seen):
        layers = quantize_encoder(encoder, seen)
        first = next(iter(layers))
        return encoder, {**layers, first: replace(layers[first], paired=False)}

    folder = tmp_path_factory.mktemp("twin") / "tiny-qa"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Int8Recipe, "quantize", quantize)
        chosen = options.ExportOptions(
            variants=("fp32", "int8"), allow_parity_loss=True, int8=Int8Recipe(windows=4)
        )
        with forced_features(VNNI):
            export(tiny_checkpoint, folder, chosen, progress=SilentProgress())
    return folder


def test_a_bundle_has_it_only_where_it_differs(bundle: Path, tiny_bundle: Path) -> None:
    files = {graph.file for graph in Bundle.open(bundle).manifest.variants["int8"].graphs}
    assert TWIN in files
    plain, twin = Bundle.open(bundle).manifest.variants["int8"].graphs[:2]
    assert plain.data == twin.data
    kept = Bundle.open(tiny_bundle).manifest.variants["int8"]
    assert all(graph.file != TWIN for graph in kept.graphs)


@pytest.mark.parametrize(("cpu", "graph"), [(VNNI, TWIN), (AVX2, "onnx/model_int8.onnx")])
def test_it_runs_where_the_cpu_has_the_instruction(bundle: Path, cpu: CpuFeatures, graph: str) -> None:
    with (
        forced_features(cpu),
        QuestionAnswerer.load(bundle, variant="int8", provider="cpu", kernels=False) as qa,
    ):
        assert qa.info().graph == graph
        qa.answer("who built it?", "The stone bridge was built by Rollo.")


@pytest.mark.parametrize(("cpu", "left"), [(VNNI, []), (AVX2, [TWIN])])
def test_it_is_verified_only_where_it_would_run(bundle: Path, cpu: CpuFeatures, left: list[str]) -> None:
    with forced_features(cpu):
        not_run = checks.not_run_here(Bundle.open(bundle).manifest)
    # Whether the kernels run here is another question.
    assert [file for file in not_run if "kernels" not in file] == left

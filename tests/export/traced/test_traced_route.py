"""Architectures without a native lowering: the graphs are the PyTorch model, and nothing else is touched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from fastspan.bundle.variants import Variant, VariantName
from fastspan.errors import CheckpointError, MissingDependency, ParityError
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.third_party import undisturbed
from fastspan.export.traced import graph_files, precision, probe
from fastspan.export.traced.graph_files import head_nodes
from fastspan.export.traced.precision import to_int8
from fastspan.export.traced.route import lower_with_optimum
from support.models.checkpoint_files import good
from support.packages import hide

pytestmark = pytest.mark.reference

ALL: tuple[VariantName, ...] = ("fp32", "fp16", "int8")
SMALL = {
    "vocab_size": 99,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 130,
}
DISENTANGLED = {
    "relative_attention": True,
    "position_buckets": 16,
    "max_relative_positions": -1,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "type_vocab_size": 0,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 32},
    "deberta-v2": DISENTANGLED,
    "mobilebert": {"embedding_size": 32, "true_hidden_size": 32, "intra_bottleneck_size": 32},
    "mpnet": {"pad_token_id": 1},
}


def build(model_type: str, **settings: Any) -> Any:
    """A random model whose logits are about as large as a trained one's are apart."""
    import torch
    import transformers

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            config = transformers.CONFIG_MAPPING[model_type].from_dict({**SMALL, **settings})
            model = transformers.AutoModelForQuestionAnswering.from_config(
                config, attn_implementation="eager"
            )
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(5)
    return model.eval()


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def lower(source: Path, onnx_folder: Path, variants: tuple[VariantName, ...] = ALL) -> dict[str, Variant]:
    made = lower_with_optimum(read_checkpoint(source), onnx_folder, variants, lambda _: None)
    return {variant.name: variant for variant in made}


def batch(size: int, length: int, *, padding: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tokens; row n has 5 n tokens less than the first one."""
    rng = np.random.default_rng(seed)
    real = np.arange(length) < (length - 5 * np.arange(size))[:, None]
    return {
        "input_ids": np.where(real, rng.integers(3, 99, (size, length)), padding),
        "attention_mask": real.astype(np.int64),
        "token_type_ids": (real & (np.arange(length) > 4)).astype(np.int64),
    }


def torch_logits(model: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    import torch

    with torch.inference_mode():
        found = model(**{name: torch.from_numpy(array) for name, array in feeds.items()})
    return np.stack([found.start_logits.numpy(), found.end_logits.numpy()])


@dataclass
class Exported:
    model: Any
    folder: Path
    variants: dict[str, Variant]

    def path(self, name: str) -> Path:
        return self.folder / self.variants[name].graphs[0].file

    def graph(self, name: str) -> onnx.GraphProto:
        return onnx.load(self.path(name)).graph

    def difference(self, name: str, *shapes: tuple[int, int]) -> float:
        """Largest difference between the logits of real tokens and PyTorch's, over the largest logit."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(self.path(name), options, providers=["CPUExecutionProvider"])
        padding = self.model.config.pad_token_id or 0
        worst = 0.0
        for seed, (size, length) in enumerate(shapes):
            feeds = batch(size, length, padding=padding, seed=seed)
            real = feeds["attention_mask"] == 1
            feeds = {name: feeds[name] for name in self.variants["fp32"].graphs[0].inputs}
            expected = torch_logits(self.model, feeds)[:, real]
            start, end = session.run(["start_logits", "end_logits"], feeds)
            assert start.dtype == end.dtype == np.float32
            assert start.shape == end.shape == (size, length)
            found = np.stack([start, end])[:, real]
            worst = float(np.maximum(worst, np.abs(found - expected).max() / np.abs(expected).max()))
        return worst


SHAPES = ((1, 5), (4, 17), (1, 64), (3, 128))


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    model = build(request.param, **ARCHITECTURES[request.param])
    folder = tmp_path_factory.mktemp(request.param)
    variants = lower(saved(model, folder / "checkpoint"), folder / "onnx")
    assert {path.name for path in folder.iterdir()} == {"checkpoint", "onnx"}
    return Exported(model, folder, variants)


@pytest.fixture(scope="module")
def albert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(
        build("albert", **ARCHITECTURES["albert"]), tmp_path_factory.mktemp("checkpoints") / "albert"
    )


@pytest.mark.parametrize(("name", "most"), [("fp32", 2e-5), ("fp16", 5e-3), ("int8", 0.1)])
def test_every_variant_gives_the_models_logits_at_every_shape(
    exported: Exported, name: str, most: float
) -> None:
    assert exported.difference(name, *SHAPES) <= most


def test_variants_say_what_their_files_hold(exported: Exported) -> None:
    assert list(exported.variants) == list(ALL)
    segmented = "token_type_ids" in exported.variants["fp32"].graphs[0].inputs
    assert segmented == (exported.model.config.model_type in ("albert", "mobilebert"))
    for name, file in zip(ALL, ("model.onnx", "model_fp16.onnx", "model_int8.onnx"), strict=True):
        variant = exported.variants[name]
        (graph,) = variant.graphs
        assert (variant.parity, variant.bytes) == (None, 0)
        assert graph.file == f"onnx/{file}"
        assert (graph.data, graph.layout) == ((), "padded")
        assert graph.target == ("cpu" if name == "int8" else "any")
        assert exported.model.config.model_type in graph.note
        onnx.checker.check_model(str(exported.path(name)), full_check=True)
        model = onnx.load(exported.path(name))
        assert graph.ir_version == model.ir_version
        assert {"": graph.opset} == {
            entry.domain: entry.version for entry in model.opset_import if not entry.domain
        }
        inputs = ("input_ids", "attention_mask", *(["token_type_ids"] if segmented else []))
        assert graph.inputs == inputs == tuple(value.name for value in model.graph.input)
        assert [value.name for value in model.graph.output] == ["start_logits", "end_logits"]
        for value in (*model.graph.input, *model.graph.output):
            kind = TensorProto.FLOAT if value.name.endswith("logits") else TensorProto.INT64
            assert value.type.tensor_type.elem_type == kind
            assert all(dim.dim_param for dim in value.type.tensor_type.shape.dim)


def test_the_interchange_graph_has_standard_operators_only(exported: Exported) -> None:
    assert {node.domain for node in exported.graph("fp32").node} == {""}


def test_int8_quantizes_every_linear_layer_but_the_head(exported: Exported) -> None:
    graph = exported.graph("int8")
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kept = [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    assert kept == ["/qa_outputs/MatMul"]
    quantized = [weights[node.input[1]] for node in graph.node if node.op_type == "MatMulInteger"]
    assert len(quantized) >= 2 * 6
    assert {tensor.data_type for tensor in quantized} == {TensorProto.UINT8}
    words = next(node for node in graph.node if node.op_type == "Gather" and node.input[1] == "input_ids")
    assert weights[words.input[0]].data_type == TensorProto.INT8
    assert weights[words.input[0]].dims[0] == SMALL["vocab_size"]
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            # A zero point for each output channel: the quantization is one of channels.
            assert weights[node.input[3]].dims == weights[node.input[1]].dims[1:]


def test_int8_does_not_saturate_on_this_processor(tmp_path: Path) -> None:
    """Sums of two u8 × s8 products that are all large do not fit the 16 bits that x86 without VNNI has."""
    rng = np.random.default_rng(0)
    weight, x = rng.uniform(0.5, 1, (256, 32)), rng.uniform(0.5, 1, (8, 256)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "weight"], ["y"], "layer")],
        "linear",
        [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, ("rows", 256))],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, ("rows", 32))],
        [numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "linear.onnx")
    with undisturbed():
        to_int8(tmp_path / "linear.onnx", tmp_path / "int8.onnx", tmp_path / "temporary.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x})
    np.testing.assert_allclose(found, x @ weight, rtol=2e-3)


def test_fp16_keeps_sums_and_the_head_in_fp32(exported: Exported) -> None:
    graph = exported.graph("fp16")
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    head = {node.name: node for node in graph.node if node.name.startswith("/qa_outputs/")}
    assert types[head["/qa_outputs/MatMul"].input[1]] == TensorProto.FLOAT
    for node in graph.node:
        if node.name in head_nodes(graph) or node.op_type == "Softmax":
            for name in node.input:
                maker = makers.get(name)
                assert maker is None or maker.op_type != "Cast" or maker.attribute[0].i == TensorProto.FLOAT
    large = [t for t in graph.initializer if t.dims and np.prod(t.dims) > 1000]
    assert large
    assert {tensor.data_type for tensor in large} == {TensorProto.FLOAT16}


def test_weights_that_layers_share_are_stored_once(albert: Path, tmp_path: Path) -> None:
    lower(albert, tmp_path / "onnx")
    parameters = sum(
        np.prod(array.shape) for array in safetensors.numpy.load_file(albert / "model.safetensors").values()
    )
    for file, size in (("model.onnx", 4), ("model_fp16.onnx", 2), ("model_int8.onnx", 1)):
        graph = onnx.load(tmp_path / "onnx" / file).graph
        matrices = sum(
            numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer if len(tensor.dims) == 2
        )
        tables = 4 * 32 * (130 + 2) if size == 1 else 0
        assert matrices <= size * parameters + tables


def test_attention_and_activations_are_fused_where_the_pattern_is_known(albert: Path, tmp_path: Path) -> None:
    variants = lower(albert, tmp_path / "onnx", ("fp16",))
    assert "MultiHeadAttention" in variants["fp16"].graphs[0].note
    operators = {node.op_type for node in onnx.load(tmp_path / "onnx" / "model_fp16.onnx").graph.node}
    assert {"MultiHeadAttention", "FastGelu", "LayerNormalization"} <= operators


def test_a_fusion_that_changes_the_logits_is_not_used(
    albert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_fuse = precision.fuse

    def wrong(source: Path, target: Path) -> str:
        said = true_fuse(source, target)
        model = onnx.load(target)
        (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "qa_outputs.bias")
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.01), bias.name))
        onnx.save(model, target)
        return said

    monkeypatch.setattr("fastspan.export.traced.route.fuse", wrong)
    variants = lower(albert, tmp_path / "onnx", ("int8",))
    assert "not fused" in variants["int8"].graphs[0].note
    assert {node.domain for node in onnx.load(tmp_path / "onnx" / "model_int8.onnx").graph.node} == {""}


@pytest.mark.parametrize("architecture", ["albert", "mobilebert"])
def test_fp16_holds_in_true_half_precision(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime computes fp16 graphs in fp32 on CPUs, so ONNX's own evaluator runs this one."""
    monkeypatch.setattr("fastspan.export.traced.route.fuse", lambda *_: "")
    model = build(architecture, **ARCHITECTURES[architecture])
    if architecture == "albert":
        layer = model.albert.encoder.albert_layer_groups[0].albert_layers[0]
        # gelu is linear for large values: what one matrix multiplies by, the next one divides by.
        layer.ffn.weight.data.mul_(1e6)
        layer.ffn_output.weight.data.mul_(1e-6)
    variants = lower(saved(model, tmp_path / "checkpoint"), tmp_path / "onnx", ("fp16",))
    evaluator = ReferenceEvaluator(onnx.load(tmp_path / "onnx" / "model_fp16.onnx"))
    feeds = batch(3, 17, padding=model.config.pad_token_id)
    real = feeds["attention_mask"] == 1
    feeds = {name: feeds[name] for name in variants["fp16"].graphs[0].inputs}
    expected = torch_logits(model, feeds)[:, real]
    found = np.stack(evaluator.run(["start_logits", "end_logits"], feeds))[:, real]
    assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()


def test_weights_too_large_for_one_file_lie_beside_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_files, "_SINGLE_FILE_BYTES", 1000)
    model = build("albert", **ARCHITECTURES["albert"])
    variants = lower(saved(model, tmp_path / "checkpoint"), tmp_path / "made" / "onnx")
    shutil.move(tmp_path / "made", tmp_path / "moved")
    exported = Exported(model, tmp_path / "moved", variants)
    for name, most in (("fp32", 2e-5), ("fp16", 5e-3), ("int8", 0.1)):
        path = exported.path(name)
        (graph,) = variants[name].graphs
        assert graph.data == (f"onnx/{path.name}_data",)
        tensors = onnx.load(path, load_external_data=False).graph.initializer
        assert any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors)
        assert not any(len(tensor.raw_data) > 1024 for tensor in tensors)
        assert exported.difference(name, (1, 9), (3, 40)) <= most
    files = {path.name for path in (tmp_path / "moved" / "onnx").iterdir()}
    assert files == {Path(file).name for variant in variants.values() for file in variant.files}


def test_only_what_was_asked_for_is_made_and_fp32_always(albert: Path, tmp_path: Path) -> None:
    told: list[str] = []
    made = lower_with_optimum(read_checkpoint(albert), tmp_path / "onnx", ("int8", "int8"), told.append)
    assert [variant.name for variant in made] == ["fp32", "int8"]
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == {"model.onnx", "model_int8.onnx"}
    assert any("int8" in step for step in told)
    assert not any("fp16" in step for step in told)


def test_weights_stored_in_half_precision_or_as_a_pickle_are_exported_in_fp32(
    albert: Path, tmp_path: Path
) -> None:
    import torch

    state = {
        name: array.astype(np.float16)
        for name, array in safetensors.numpy.load_file(albert / "model.safetensors").items()
    }
    config = {
        **json.loads((albert / "config.json").read_text()),
        "dtype": "float16",
        "torch_dtype": "float16",
    }
    for kind in ("half", "pickle"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(state, tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
    torch.save(
        {name: torch.from_numpy(array) for name, array in state.items()},
        tmp_path / "pickle" / "pytorch_model.bin",
    )
    model = build("albert", **ARCHITECTURES["albert"]).half().float()
    for kind in ("half", "pickle"):
        variants = lower(tmp_path / kind, tmp_path / kind / "onnx", ("fp32",))
        assert Exported(model, tmp_path / kind, variants).difference("fp32", *SHAPES) <= 2e-5


def test_a_model_with_one_segment_takes_no_segment_ids(tmp_path: Path) -> None:
    model = build("albert", **ARCHITECTURES["albert"], type_vocab_size=1)
    variants = lower(saved(model, tmp_path / "checkpoint"), tmp_path / "onnx", ("fp32",))
    assert variants["fp32"].graphs[0].inputs == ("input_ids", "attention_mask")
    assert Exported(model, tmp_path, variants).difference("fp32", *SHAPES) <= 2e-5


# What cannot be exported.


def refused(
    source: Path, folder: Path, message: str, kind: type[Exception] = CheckpointError, **options: Any
) -> None:
    with pytest.raises(kind, match=message) as caught:
        lower(source, folder / "onnx", **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert not list((folder / "onnx").iterdir())
    assert not list(folder.glob(".optimum-*"))


def test_an_architecture_that_optimum_does_not_know(tmp_path: Path) -> None:
    source = saved(build("ernie"), tmp_path / "checkpoint")
    refused(source, tmp_path, "is a ernie model, which optimum cannot export: ernie is not supported yet")


def test_an_architecture_whose_graph_needs_other_inputs(tmp_path: Path) -> None:
    source = saved(build("longformer", attention_window=8, sep_token_id=2), tmp_path / "checkpoint")
    refused(source, tmp_path, "only with the input global_attention_mask")


def test_an_architecture_without_linear_layers_has_no_int8(tmp_path: Path) -> None:
    source = saved(build("squeezebert", embedding_size=48), tmp_path / "checkpoint")
    refused(source, tmp_path, "leave the int8 variant out", variants=("int8",))
    assert list(lower(source, tmp_path / "other" / "onnx", ("fp32",))) == ["fp32"]


def test_a_checkpoints_own_code_is_never_run(albert: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(albert, tmp_path / "checkpoint"))
    (source / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((source / "config.json").read_text())
    classes = {"AutoConfig": "code.Config", "AutoModelForQuestionAnswering": "code.Model"}
    (source / "config.json").write_text(json.dumps({**config, "auto_map": classes, "model_type": "own"}))
    refused(source, tmp_path, "is of model_type 'own', for which transformers .* has no extractive")
    # Where transformers has a model of its own, it is that one.
    (source / "config.json").write_text(json.dumps({**config, "auto_map": classes}))
    lower(source, tmp_path / "other" / "onnx", ("fp32",))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "none"}, "describes no albert model that transformers can make"),
        ({"intermediate_size": 64}, r"has the shape \(96, 48\), but its config.json says \(64, 48\)"),
        ({"num_hidden_groups": 2}, r"lacks 16 of the tensors .* such as 'albert\.encoder"),
    ],
)
def test_weights_that_do_not_fill_the_model(
    albert: Path, tmp_path: Path, change: dict[str, int], message: str
) -> None:
    source = Path(shutil.copytree(albert, tmp_path / "checkpoint"))
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, **change}))
    refused(source, tmp_path, message)


def test_a_graph_that_runs_at_the_traced_shape_only(
    albert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optimum.exporters.onnx

    true_export = optimum.exporters.onnx.export
    monkeypatch.setattr(
        optimum.exporters.onnx, "export", lambda *a, **k: true_export(*a, **k, no_dynamic_axes=True)
    )
    refused(albert, tmp_path, "does not run on batches of every shape .*: the architecture")


def test_a_graph_that_is_not_the_model(albert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import optimum.exporters.onnx

    true_export = optimum.exporters.onnx.export

    def wrong(model: Any, *arguments: Any, **options: Any) -> None:
        true_export(model, *arguments, **options)
        model.qa_outputs.bias.data.add_(0.1)

    monkeypatch.setattr(optimum.exporters.onnx, "export", wrong)
    refused(albert, tmp_path, "is not the model on batches of other shapes", ParityError)


def test_a_tool_that_fails_is_named_with_a_way_on(
    albert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise KeyError("no such node. And more")

    monkeypatch.setattr("fastspan.export.traced.route.to_half", failing)
    refused(
        albert,
        tmp_path,
        r"convert the graph to fp16 \(no such node\): leave the fp16 variant out",
        variants=("fp16",),
    )


@pytest.mark.parametrize("package", ["optimum.exporters.onnx", "torch", "transformers"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = good(tmp_path / "checkpoint")
    hide(monkeypatch, package)
    refused(source, tmp_path, r"pip install 'fastspan\[optimum\]'", MissingDependency)


# What it leaves as it was.


def test_the_process_is_left_as_it_was_and_told_nothing(albert: Path, tmp_path: Path) -> None:
    script = """
import logging, os, random, sys, warnings
from pathlib import Path
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.traced.route import lower_with_optimum
from fastspan.export.third_party import undisturbed
import onnxruntime

assert not {"torch", "transformers", "optimum"} & set(sys.modules)

def state():
    root = logging.getLogger()
    return [
        (root.level, list(root.handlers), list(root.filters)),
        dict(os.environ), list(sys.path), list(warnings.filters), random.getstate(),
    ]

def state_of_imported():
    import torch
    return [
        *(logging.getLogger(name).level for name in ("transformers", "optimum")),
        torch.random.get_rng_state().tolist(), torch.get_default_dtype(), torch.is_grad_enabled(),
    ]

before = state()
lower_with_optimum(read_checkpoint(Path(sys.argv[1])), Path(sys.argv[2]), ["fp32", "fp16", "int8"], print)
assert state() == before, [pair for pair in zip(state(), before) if pair[0] != pair[1]]
before = state(), state_of_imported()
try:
    lower_with_optimum(read_checkpoint(Path(sys.argv[3])), Path(sys.argv[2]), ["fp32"], print)
except Exception as error:
    print(type(error).__name__)
assert (state(), state_of_imported()) == before
assert logging.getLogger("transformers").level == logging.WARNING
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, albert, tmp_path / "onnx", good(tmp_path / "bad")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "loading the model into PyTorch",
        "tracing the model with optimum",
        "lowering to fp32",
        "fusing operators",
        "lowering to fp16",
        "lowering to int8",
        "loading the model into PyTorch",
        "CheckpointError",
    ]


# The probe, on which all of this is decided.


def test_the_probe_has_padding_single_rows_and_no_padding_among_real_tokens() -> None:
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    made = probe.Probe.of(inputs, vocabulary=20, padding_id=1, longest=40)
    shapes = {values["input_ids"].shape for values in made.batches}
    assert shapes == {(1, 7), (3, 24), (2, 40)}
    for values in made.batches:
        real = values["attention_mask"] == 1
        assert (values["input_ids"][real] != 1).all()
        assert (values["input_ids"][~real] == 1).all()
        assert values["input_ids"].min() >= 0
        assert values["input_ids"].max() < 20
        assert len(values["input_ids"]) == 1 or (~real).any()
        assert set(np.unique(values["token_type_ids"][real])) == {0, 1}


def test_differences_are_measured_on_real_tokens_and_relative_to_large_logits() -> None:
    made = probe.Probe.of(["attention_mask"], vocabulary=20, padding_id=0, longest=40)
    zeros = [np.zeros((2, *values["attention_mask"].shape), np.float32) for values in made.batches]
    padded = [array.copy() for array in zeros]
    for array, values in zip(padded, made.batches, strict=True):
        array[:, values["attention_mask"] == 0] = np.nan
    assert made.difference(zeros, padded) == 0
    one = [array.copy() for array in zeros]
    one[0][1, 0, 2] = 0.5
    assert made.difference(zeros, one) == 0.5
    large = [array + np.float32(100) for array in zeros]
    assert made.difference(large, [a + b for a, b in zip(large, one, strict=True)]) == pytest.approx(0.005)
    one[0][1, 0, 2] = np.nan
    assert np.isnan(made.difference(zeros, one))

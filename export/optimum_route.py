"""Architectures without a native lowering: traced by optimum, then fused and quantized by ONNX Runtime's tools.

The steps, each of which hands a file to the next:

1. The weights that ``Checkpoint`` read go into transformers' own model class. Nothing in the checkpoint's
   folder is executed or unpickled, and the graph holds the weights whose checksums the manifest records.
2. optimum traces that model. A trace records one run, so Python conditions on sizes are frozen in it:
   what came out is compared with PyTorch on batches of other shapes.
3. fp32 is that graph with its constants folded, in standard operators: the interchange graph.
4. fp16 and int8 start from the graph with operators fused, if fusing left its logits alone.
"""

from __future__ import annotations

import copy
import logging
import os
import random
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from fastspan.errors import CheckpointError, MissingDependency, ParityError
from fastspan.export.checkpoint import Checkpoint
from fastspan.export.lowering.builder import MICROSOFT, OPSET
from fastspan.providers import import_onnxruntime
from fastspan.variants import Graph, Target, Variant, VariantName
from onnx import TensorProto, helper

__all__ = ["lower_with_optimum"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OUTPUTS = ["start_logits", "end_logits"]
# What module ``qa_outputs``, which every checkpoint read here ends in, is called in a trace.
_HEAD = "/qa_outputs/"
# A protocol buffer ends at 2 GiB; the nodes need room too.
_SINGLE_FILE_BYTES = 2_000_000_000
# Differences are measured in units of the largest logit (see _difference). What a trace froze by mistake
# differs by tenths; other orders of summation differ by a few units of fp32's last place.
_TRACE_TOLERANCE = 1e-3
_FUSION_TOLERANCE = 1e-4
# fp16 ends at 65504. Other texts than the probe may reach higher by this factor.
_LARGEST_IN_HALF = 65504 / 16
# Sums over many terms, where half precision loses answers.
_SUMS = ("Softmax", "ReduceMean", "ReduceSum", "ReduceL2", "Pow")


def lower_with_optimum(
    checkpoint: Checkpoint,
    onnx_folder: Path,
    variants: Sequence[VariantName],
    progress: Callable[[str], None],
) -> list[Variant]:
    """Write the graphs of ``variants`` into a bundle's ``onnx`` folder.

    All graphs are padded: inputs ``input_ids``, ``attention_mask`` and, for models of several segments,
    ``token_type_ids``, int64 of (batch, length); outputs ``start_logits`` and ``end_logits``, float32 of
    (batch, length). The fp32 variant is always written: it is the interchange graph.

    Warnings, log lines, ``sys.path``, the environment and the generators of random numbers that the tools
    would change are as before when this returns. While it runs, they are the whole process's.

    Args:
        checkpoint: The model.
        onnx_folder: The folder to write to, made if missing; temporary files lie in a folder beside it.
        variants: Which variants to make.
        progress: Told in a few words which step begins.

    Returns:
        The variants, fp32 first, their parity and size not yet measured.

    Raises:
        CheckpointError: transformers has no such model, its weights are not all in the checkpoint,
            optimum cannot export it, or its graph needs inputs that a question over a text does not have.
        ParityError: The trace holds for the traced shape only, or a variant gives logits that are not finite.
        MissingDependency: optimum, PyTorch, transformers or ONNX Runtime is not installed.
    """
    onnx_folder.mkdir(parents=True, exist_ok=True)
    place = onnx_folder.name
    with _undisturbed(), TemporaryDirectory(prefix=".optimum-", dir=onnx_folder.parent) as temporary:
        work, done = Path(temporary), Path(temporary, "done")
        done.mkdir()
        progress("loading the model into PyTorch")
        model = _load(checkpoint)
        progress("tracing the model with optimum")
        traced = work / "traced.onnx"
        _trace(checkpoint, model, traced)
        batches = _probe(model, traced)
        expected = [_torch_logits(model, batch) for batch in batches]
        _hold(_difference(expected, _logits(traced, batches), batches), _TRACE_TOLERANCE, _FROZEN)
        origin = f"{checkpoint.config['model_type']} traced by optimum-onnx {version('optimum-onnx')}"

        progress("lowering to fp32")
        plain = done / "model.onnx"
        _write(_folded(traced, work), plain)
        reference = _logits(plain, batches)
        _hold(_difference(expected, reference, batches), _TRACE_TOLERANCE, _FROZEN)
        made = [_variant("fp32", plain, place, "any CPU or GPU", f"{origin}; standard operators")]

        base, fused = plain, "nothing was fused"
        if set(variants) - {"fp32"}:
            progress("fusing operators")
            base, fused = _fused(plain, work / "fused.onnx", batches, reference)
        if "fp16" in variants:
            progress("lowering to fp16")
            path = done / "model_fp16.onnx"
            wide = _write_half(base, path, _observe(base, work / "observed.onnx", batches))
            _require_finite(path, batches)
            note = f"{origin}; {fused}; softmax, QA head and {wide} nodes beyond fp16's safe range in fp32"
            made.append(_variant("fp16", path, place, "GPUs with fp16 arithmetic", note))
        if "int8" in variants:
            progress("lowering to int8")
            path = done / "model_int8.onnx"
            _write_int8(base, path, work)
            _require_finite(path, batches)
            note = (
                f"{origin}; {fused}; linear layers in u8 per output channel, which no x86 CPU saturates on, "
                "inputs quantized as they come; embeddings, attention and QA head in fp32"
            )
            made.append(_variant("int8", path, place, "any CPU, fast with an 8-bit dot product", note))
        for file in done.iterdir():
            file.replace(onnx_folder / file.name)
    return made


_FROZEN = (
    "The graph that optimum traced differs from the PyTorch model on batches of other shapes than the traced one "
    "(by {difference:.2g} of the largest logit): the architecture's code depends on the batch's shape, "
    "so it cannot be exported."
)


# The model.


def _load(checkpoint: Checkpoint) -> Any:
    """Return transformers' model with the checkpoint's weights, in fp32."""
    import torch
    from transformers import CONFIG_MAPPING, MODEL_FOR_QUESTION_ANSWERING_MAPPING, AutoModelForQuestionAnswering

    folder, model_type = checkpoint.folder, checkpoint.config.get("model_type")
    if model_type not in CONFIG_MAPPING or CONFIG_MAPPING[model_type] not in MODEL_FOR_QUESTION_ANSWERING_MAPPING:
        raise CheckpointError(
            f"{folder} is of model_type {model_type!r}, for which transformers {version('transformers')} has no "
            "extractive question-answering model; code that a checkpoint brings along is never executed."
        )
    try:
        config = CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(checkpoint.config))
        # The type in config.json may be float16. Eager attention is what fusions recognize.
        model = AutoModelForQuestionAnswering.from_config(
            config, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
        )
    except Exception as error:
        # Configurations are checked by whatever the model's code stumbles over.
        raise CheckpointError(
            f"{folder / 'config.json'} does not describe a {model_type} model ({_reason(error)}): "
            "copy or download the checkpoint again."
        ) from error
    _fill(checkpoint, model)
    return model.eval()


def _fill(checkpoint: Checkpoint, model: Any) -> None:
    """Copy the checkpoint's weights into the model, in place."""
    import torch

    weights = checkpoint.weights
    state: dict[str, Any] = model.state_dict()
    filled = set()
    for name, tensor in state.items():
        if name not in weights:
            continue
        if weights.shape(name) != tuple(tensor.shape):
            raise CheckpointError(
                f"{checkpoint.folder}: tensor {name!r} has the shape {weights.shape(name)}, but config.json "
                f"says {tuple(tensor.shape)}: copy or download the checkpoint again."
            )
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(np.array(weights[name])))
        filled.add(tensor.data_ptr())
    # Tied parameters are stored once, and tables that are computed need not be stored.
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.data_ptr() not in filled
    ]
    if missing:
        raise CheckpointError(
            f"{checkpoint.folder} lacks {len(missing)} of the model's tensors, such as {missing[0]!r}: "
            "copy or download the checkpoint again."
        )


def _trace(checkpoint: Checkpoint, model: Any, path: Path) -> None:
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager

    try:
        describe = TasksManager.get_exporter_config_constructor(
            "onnx", model, task="question-answering", library_name="transformers"
        )
        description = describe(model.config)
        wanted = set(_TEXT_INPUTS)
        if getattr(model.config, "type_vocab_size", 2) == 1:
            # The ids of a second segment would lie outside the table.
            wanted.remove("token_type_ids")
        foreign = sorted(set(description.inputs) - set(_TEXT_INPUTS))
        if not foreign:
            export(model, _with_inputs(description, wanted), path, opset=OPSET)
    except Exception as error:
        # optimum raises KeyError, ValueError and more for what it does not support, and tracing runs the model.
        raise CheckpointError(
            f"{checkpoint.folder} is a {model.config.model_type} model, which optimum cannot export: "
            f"{_reason(error)}."
        ) from error
    if foreign:
        raise CheckpointError(
            f"{checkpoint.folder} is a {model.config.model_type} model, which optimum exports with the inputs "
            f"{', '.join(foreign)}: a question over a text does not have them, so the model cannot be used here."
        )


def _with_inputs(description: Any, wanted: set[str]) -> Any:
    """Restrict optimum's description of a model to some of its inputs."""
    kind = type(description)
    inputs = {name: axes for name, axes in description.inputs.items() if name in wanted}
    description.__class__ = type(kind.__name__, (kind,), {"inputs": property(lambda _: inputs)})
    return description


def _reason(error: Exception) -> str:
    """The first sentence of a third party's message, without its full stop."""
    text = str(error.args[0]) if error.args else type(error).__name__
    return re.split(r"(?<=[.!?])\s|\n", text.strip(), maxsplit=1)[0].rstrip(".")


# The probe: batches on which graphs are compared.


def _probe(model: Any, path: Path) -> list[dict[str, Integers]]:
    """Batches of random tokens, with padding, in shapes that no trace was made with."""
    config = model.config
    names = [value.name for value in onnx.load(path, load_external_data=False).graph.input]
    rng = np.random.default_rng(0)
    most = max(2, (getattr(config, "max_position_embeddings", None) or 512) // 2)
    padding = getattr(config, "pad_token_id", None) or 0
    batches = []
    for size, length in ((1, 7), (3, 24), (2, 51)):
        length = min(length, most)
        ids = rng.integers(0, config.vocab_size, (size, length))
        ids[ids == padding] = (padding + 1) % config.vocab_size
        columns = np.arange(length)
        real = columns < np.linspace(length, max(2, length // 2), size)[:, None]
        second = np.broadcast_to(columns > length // 3, ids.shape) & real
        values = {
            "input_ids": np.where(real, ids, padding),
            "attention_mask": real,
            "token_type_ids": second,
        }
        batches.append({name: values[name].astype(np.int64) for name in names})
    return batches


def _torch_logits(model: Any, batch: Mapping[str, Integers]) -> Floats:
    """Start and end logits, (2, batch, length)."""
    import torch

    with torch.inference_mode():
        found = model(**{name: torch.from_numpy(array) for name, array in batch.items()}, return_dict=True)
    return np.stack([found.start_logits.numpy(), found.end_logits.numpy()])


def _logits(path: Path, batches: Iterable[Mapping[str, Integers]]) -> list[Floats]:
    """Start and end logits of each batch, (2, batch, length)."""
    session = _session(path)
    try:
        return [np.stack(session.run(_OUTPUTS, dict(batch))) for batch in batches]
    except Exception as error:
        # ONNX Runtime's exceptions have no common base but Exception.
        raise ParityError(
            f"ONNX Runtime cannot run {path.name} on batches of other shapes than the traced one: the "
            "architecture's code depends on the batch's shape, so it cannot be exported."
        ) from error


def _session(path: Path, *, optimized: bool = True, save: Path | None = None) -> Any:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    levels = ort.GraphOptimizationLevel
    if save is not None:
        options.graph_optimization_level = levels.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(save)
        key = "session.optimized_model_external_initializers_file_name"
        options.add_session_config_entry(key, f"{save.name}_data")
    elif not optimized:
        options.graph_optimization_level = levels.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _difference(
    one: Sequence[Floats], other: Sequence[Floats], batches: Sequence[Mapping[str, Integers]]
) -> float:
    """Largest difference between the logits of real tokens, over the largest logit if that is above 1."""
    largest = 1.0
    difference = 0.0
    for a, b, batch in zip(one, other, batches, strict=True):
        real = batch["attention_mask"] == 1
        largest = max(largest, float(np.abs(a[:, real]).max()))
        difference = float(np.maximum(difference, np.abs(a[:, real] - b[:, real]).max()))
    return difference / largest


def _hold(difference: float, tolerance: float, message: str) -> None:
    # Written so that a difference that is not a number fails.
    if not difference <= tolerance:
        raise ParityError(message.format(difference=difference))


def _require_finite(path: Path, batches: Sequence[Mapping[str, Integers]]) -> None:
    for batch, logits in zip(batches, _logits(path, batches), strict=True):
        if not np.isfinite(logits[:, batch["attention_mask"] == 1]).all():
            raise ParityError(
                f"{path.name} gives logits that are not finite: the model's values are beyond this precision, "
                "so leave the variant out."
            )


# The graphs.


def _folded(traced: Path, work: Path) -> onnx.ModelProto:
    """Fold constants and drop what computes nothing; without it, shared weights hide behind Identity nodes."""
    folded = work / "folded.onnx"
    _session(traced, save=folded)
    return onnx.load(folded)


def _fused(
    plain: Path, path: Path, batches: Sequence[Mapping[str, Integers]], reference: Sequence[Floats]
) -> tuple[Path, str]:
    """Fuse attention, activations and normalizations.

    Returns:
        The graph to go on with, and what was fused, for people: ``plain`` where nothing was, or where fusing
        changed the logits.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_by_fusion

    options = FusionOptions("bert")
    # Projections stay linear layers of their own: they can be quantized, and ALBERT's layers share theirs.
    options.use_multi_head_attention = True
    options.use_raw_attention_mask(True)
    # These are slower on CPUs, take inputs of another type, or are done when the graph is loaded.
    options.enable_skip_layer_norm = False
    options.enable_bias_skip_layer_norm = False
    options.enable_embed_layer_norm = False
    options.enable_bias_gelu = False
    options.enable_shape_inference = False
    model = optimize_by_fusion(onnx.load(plain), "bert", optimization_options=options).model
    counts = Counter(node.op_type for node in model.graph.node if node.domain == MICROSOFT)
    if not counts:
        return plain, "nothing was fused"
    _write(model, path)
    if not _difference(reference, _logits(path, batches), batches) <= _FUSION_TOLERANCE:
        return plain, "nothing was fused, since that would change the logits"
    return path, "fused " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class _Seen:
    """A tensor as it was on the probe: its element type (``TensorProto.DataType``) and largest magnitude."""

    kind: int
    peak: float


def _observe(base: Path, path: Path, batches: Iterable[Mapping[str, Integers]]) -> dict[str, _Seen]:
    """Run a graph and look at what each of its nodes gives. Type inference does not know fused operators."""
    model = onnx.load(base)
    names = [name for node in model.graph.node for name in node.output if name and name not in _OUTPUTS]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    _write(model, path, check=False)
    session = _session(path, optimized=False)
    seen: dict[str, _Seen] = {}
    for batch in batches:
        for name, array in zip(names, session.run(names, dict(batch)), strict=True):
            peak = float(np.abs(array).max()) if array.dtype.kind == "f" and array.size else 0.0
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            seen[name] = _Seen(kind, max(peak, seen[name].peak if name in seen else 0.0))
    return seen


def _write_half(base: Path, path: Path, seen: Mapping[str, _Seen]) -> int:
    """Convert to fp16, but for sums, the QA head and what has values that fp16 may not hold.

    Returns:
        How many nodes stay fp32 because of their values.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(base)
    graph = model.graph
    del graph.value_info[:]
    graph.value_info.extend(
        helper.make_tensor_value_info(name, value.kind, None) for name, value in seen.items()
    )
    large = {name for name, value in seen.items() if not value.peak <= _LARGEST_IN_HALF}
    wide = [node.name for node in graph.node if large & {*node.input, *node.output}]
    model = convert_float_to_float16(
        model,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_SUMS],
        node_block_list=[*wide, *_head(graph)],
    )
    _join_wide_nodes(model.graph)
    # The conversion appends its casts behind the nodes that they feed.
    OnnxModel.graph_topological_sort(model.graph)
    del model.graph.value_info[:]
    _write(model, path)
    return len(wide)


def _join_wide_nodes(graph: onnx.GraphProto) -> None:
    """Where one fp32 node feeds another, take out the casts to fp16 and back, which would lose the value."""
    narrowed = {
        node.output[0]: node.input[0] for node in graph.node if node.name.endswith("_cast_to_fp16_node")
    }
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in narrowed and node.attribute[0].i == TensorProto.FLOAT:
            # ONNX Runtime drops a cast from fp32 to fp32 when it loads the graph.
            node.input[0] = narrowed[node.input[0]]
    used = {name for node in graph.node for name in node.input} | set(_OUTPUTS)
    for node in [node for node in graph.node if node.op_type == "Cast" and node.output[0] not in used]:
        graph.node.remove(node)


def _head(graph: onnx.GraphProto) -> list[str]:
    """Names of the QA head's nodes and of all that follow."""
    names: list[str] = []
    reached: set[str] = set()
    for node in graph.node:
        if node.name.startswith(_HEAD) or not reached.isdisjoint(node.input):
            names.append(node.name)
            reached.update(node.output)
    return names


def _write_int8(base: Path, path: Path, work: Path) -> None:
    """Quantize the linear layers but the QA head.

    Weights are u8: processors without VNNI multiply u8 × s8 with 16-bit sums that saturate, and u8 × u8
    exactly, while those with VNNI make s8 of u8 when the graph is loaded.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantized = work / "quantized.onnx"
    quantize_dynamic(
        base,
        quantized,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QUInt8,
        nodes_to_exclude=_head(onnx.load(base, load_external_data=False).graph),
        use_external_data_format=_data_of(base).exists(),
        # The types of fused operators' outputs cannot be inferred.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    _write(onnx.load(quantized), path)


def _write(model: onnx.ModelProto, path: Path, *, check: bool = True) -> None:
    """Write a graph, its weights beside it if they are too large for one file. The model is spent."""
    used = {"", *(node.domain for node in model.graph.node)}
    opsets = [entry for entry in model.opset_import if entry.domain in used]
    if MICROSOFT in used and MICROSOFT not in {entry.domain for entry in opsets}:
        opsets.append(helper.make_opsetid(MICROSOFT, 1))
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    large = weights > _SINGLE_FILE_BYTES
    onnx.save_model(
        model, path, save_as_external_data=large, all_tensors_to_one_file=True, location=_data_of(path).name
    )
    if check:
        onnx.checker.check_model(str(path))


def _data_of(path: Path) -> Path:
    return path.with_name(f"{path.name}_data")


def _variant(name: VariantName, path: Path, place: str, target: str, note: str) -> Variant:
    """Describe a file that is to lie in the folder ``place`` of the bundle."""
    model = onnx.load(path, load_external_data=False)
    data = _data_of(path)
    kind: Target = "cpu" if name == "int8" else "any"
    graph = Graph(
        file=f"{place}/{path.name}",
        target=kind,
        layout="padded",
        inputs=tuple(value.name for value in model.graph.input),
        data=(f"{place}/{data.name}",) if data.exists() else (),
        opset=next(entry.version for entry in model.opset_import if entry.domain == ""),
        ir_version=model.ir_version,
        note=note,
    )
    return Variant(name=name, graphs=(graph,), parity=None, target=target)


# Living with the tools.


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the tools' known noise from the caller, and undo what they change for the whole process."""
    path, environment, state = list(sys.path), dict(os.environ), random.getstate()
    levels: dict[str, int] = {}
    root, handler = logging.getLogger(), logging.NullHandler()
    # ONNX Runtime's quantizer logs by logging.warning, which would give the root logger a handler for good.
    root.addHandler(handler)
    root.addFilter(_not_from_onnxruntime)
    try:
        with warnings.catch_warnings():
            for message in (
                "You are using the legacy TorchScript-based ONNX export",
                "The feature will be removed",
                "`torch.jit.script` is deprecated",
            ):
                warnings.filterwarnings("ignore", message, DeprecationWarning)
            warnings.filterwarnings("ignore", "Constant folding - Only steps=1", UserWarning)
            torch = _import_packages()
            # A trace that froze what these warn of is found by comparing it with the model.
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            for name in ("transformers", "optimum"):
                logger = logging.getLogger(name)
                levels[name] = logger.level
                logger.setLevel(logging.ERROR)
            with torch.random.fork_rng(devices=[]):
                yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        root.removeFilter(_not_from_onnxruntime)
        root.removeHandler(handler)
        random.setstate(state)
        sys.path[:] = path
        for name in set(os.environ) - set(environment):
            del os.environ[name]


def _not_from_onnxruntime(record: logging.LogRecord) -> bool:
    return f"{os.sep}onnxruntime{os.sep}" not in record.pathname


def _import_packages() -> Any:
    """Import all that the route needs, and return torch."""
    import_onnxruntime()
    try:
        import optimum.exporters.onnx
        import torch
        import transformers
    except ImportError as error:
        raise MissingDependency(
            "This architecture has no native lowering and is exported by optimum, which is not installed "
            f"({error}): run pip install 'fastspan[optimum]'."
        ) from error
    return torch

"""A traced graph made smaller and faster by ONNX Runtime's own tools: folded, fused, fp16, int8.

Each step reads one file and writes another. The tools' traps are mended here, each named where it lies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fastspan.errors import CheckpointError
from fastspan.export.graphs.builder import MICROSOFT
from fastspan.export.int8.rounding import quantize_columns
from fastspan.export.traced.graph_files import OUTPUTS, data_file, head_nodes, write_graph
from fastspan.export.traced.probe import Seen
from fastspan.runtime.providers import import_onnxruntime

__all__ = ["fold", "fuse", "to_half", "to_int8"]

# fp16 ends at 65504. Other texts than the probe may reach higher, by this factor.
_LARGEST_IN_HALF = 65504 / 16
# Sums over many terms and powers: where half precision loses answers.
_WIDE_OPERATORS = ("Softmax", "ReduceMean", "ReduceSum", "ReduceL2", "Pow")


def fold(source: Path, target: Path) -> None:
    """Fold constants and drop what computes nothing; all operators remain standard ones.

    Traces give a weight that layers share to all but one of them through an Identity, behind which
    quantization does not see that it is a weight.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", data_file(target).name
    )
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    write_graph(onnx.load(target), target)


def fuse(source: Path, target: Path) -> str:
    """Fuse attention and activations into operators of ONNX Runtime.

    Returns:
        What was fused, for people; empty, and nothing written, where nothing was.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_by_fusion

    options = FusionOptions("bert")
    # With this operator projections stay linear layers of their own: they can be quantized, and a weight
    # that layers share (ALBERT) is not copied into each.
    options.use_multi_head_attention = True
    # The alternative demands that padding is on the right.
    options.use_raw_attention_mask(True)
    # These are scalar loops on CPUs, or change the inputs' type, or are done when the graph is loaded.
    options.enable_skip_layer_norm = False
    options.enable_bias_skip_layer_norm = False
    options.enable_embed_layer_norm = False
    options.enable_bias_gelu = False
    options.enable_shape_inference = False
    model = optimize_by_fusion(onnx.load(source), "bert", optimization_options=options).model
    counts = Counter(node.op_type for node in model.graph.node if node.domain == MICROSOFT)
    if counts:
        write_graph(model, target)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def to_half(source: Path, target: Path, seen: Mapping[str, Seen]) -> int:
    """Convert to fp16, all but sums, the QA head and nodes with values that fp16 may not hold.

    Args:
        source: The graph.
        target: Where to write; inputs and outputs keep their types.
        seen: What ``Probe.observe`` saw in ``source``.

    Returns:
        How many nodes stay fp32 because of their values.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    model = onnx.load(source)
    # The conversion casts only tensors whose type it is told.
    del model.graph.value_info[:]
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, value.element_type, None) for name, value in seen.items()
    )
    large = {name for name, value in seen.items() if not value.peak <= _LARGEST_IN_HALF}
    wide = [node.name for node in model.graph.node if not large.isdisjoint([*node.input, *node.output])]
    model = convert_float_to_float16(
        model,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_WIDE_OPERATORS],
        node_block_list=[*wide, *head_nodes(model.graph)],
    )
    del model.graph.value_info[:]
    _join_wide_nodes(model.graph)
    write_graph(model, target)
    return len(wide)


def to_int8(source: Path, target: Path, temporary: Path) -> str:
    """Quantize the linear layers, all but the QA head, and the token embeddings.

    Token embeddings become s8 with a scale for each row. Weights become u8, with a scale and a zero point for
    each output channel: x86 processors without VNNI multiply u8 × s8 in 16-bit sums that saturate, but
    u8 × u8 exactly, and every other processor multiplies both exactly.

    Args:
        source: The graph.
        target: Where to write.
        temporary: Where an unfinished graph may be written.

    Returns:
        What was quantized, for people.

    Raises:
        CheckpointError: There is none to quantize.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        temporary,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QUInt8,
        nodes_to_exclude=head_nodes(onnx.load(source, load_external_data=False).graph),
        use_external_data_format=data_file(source).exists(),
        # Type inference does not know fused operators.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    model = onnx.load(temporary)
    layers = len([node for node in model.graph.node if node.op_type == "MatMulInteger"])
    if not layers:
        raise CheckpointError(
            "The model has no linear layers that could be quantized: leave the int8 variant out."
        )
    made = f"{layers} linear layers in u8 per channel, exact also on x86 without VNNI"
    if _quantize_words(model.graph):
        made += ", token embeddings in s8 per row"
    write_graph(model, target)
    return made


def _quantize_words(graph: onnx.GraphProto) -> bool:
    """Quantize the table of token embeddings, if nothing else reads it, as the native route does."""
    tables = {tensor.name: tensor for tensor in graph.initializer}
    reads = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        name = node.input[0] if node.op_type == "Gather" and node.input[1] == "input_ids" else ""
        if name in tables and reads[name] == 1:
            break
    else:
        return False
    rows = numpy_helper.to_array(tables[name])
    quantized, scale = quantize_columns(np.ascontiguousarray(rows.T))
    tables[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(quantized.T), name))
    graph.initializer.append(numpy_helper.from_array(scale[:, None], f"{name}.scale"))
    words = node.output[0]
    stored, wide, scales = (f"{words}.{part}" for part in ("stored", "wide", "scale"))
    node.output[0] = stored
    graph.node.extend(
        [
            helper.make_node("Cast", [stored], [wide], wide, to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}.scale", "input_ids"], [scales], scales),
            helper.make_node("Mul", [wide, scales], [words], words),
        ]
    )
    return True


def _join_wide_nodes(graph: onnx.GraphProto) -> None:
    """Where one fp32 node feeds another, take out the casts to fp16 and back, which would lose the value."""
    narrowed = {
        node.output[0]: node.input[0] for node in graph.node if node.name.endswith("_cast_to_fp16_node")
    }
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in narrowed and node.attribute[0].i == TensorProto.FLOAT:
            # A cast from fp32 to fp32 is dropped when the graph is loaded.
            node.input[0] = narrowed[node.input[0]]
    used = {name for node in graph.node for name in node.input} | set(OUTPUTS)
    for node in [node for node in graph.node if node.op_type == "Cast" and node.output[0] not in used]:
        graph.node.remove(node)

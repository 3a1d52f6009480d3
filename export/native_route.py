"""Our own lowering of BERT-like encoders: every variant's graphs, written into a bundle's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import onnx

from fastspan.bundle.variants import Graph, Layout, Target, Variant
from fastspan.export.graphs.builder import IR_VERSION, OPSET, WeightFile
from fastspan.export.graphs.cuda_graphs import CudaLowering, PackedCudaLowering
from fastspan.export.graphs.encoder_graph import Lowering
from fastspan.export.graphs.float_graphs import CpuLowering, HalfLowering
from fastspan.export.graphs.model import EncoderModel
from fastspan.export.int8.graph import DotProductLowering, Int8Lowering
from fastspan.export.int8.kernel_graph import kernel_graph
from fastspan.export.int8.kernel_layers import quantize_for_kernels, unfit_for_kernels
from fastspan.export.options import ExportOptions
from fastspan.text.encoder import Encoder

__all__ = ["lower_natively"]


def lower_natively(
    model: EncoderModel,
    texts: Encoder,
    folder: Path,
    options: ExportOptions,
    stage: Callable[[str], None],
) -> list[Variant]:
    """Write the graphs of the variants that are asked for into ``folder``, a bundle's ``onnx`` folder.

    The fp32 variant is always written: it is the interchange graph.

    Args:
        model: The model.
        texts: The bundle's tokenizer, for the texts that int8 is observed on.
        folder: Where to write.
        options: ``variants``, ``int8`` and ``threads`` are used.
        stage: Told in a few words which step begins.

    Returns:
        The variants, their parity not yet measured.
    """
    stage("lowering to fp32")
    with WeightFile(folder / "model.onnx_data") as weights:
        made = [_fp32(model, weights)]
    if "fp16" in options.variants:
        stage("lowering to fp16")
        made.append(fp16_variant(model, folder))
    if "int8" in options.variants:
        stage("lowering to int8")
        made.append(_int8(model, texts, folder, options, stage))
    return made


def _fp32(model: EncoderModel, weights: WeightFile) -> Variant:
    return Variant(
        name="fp32",
        graphs=(
            _write(Lowering(model, weights), "model.onnx", weights, target="any", note="interchange"),
            _write(
                CpuLowering(model, weights),
                "model_cpu.onnx",
                weights,
                target="cpu",
                note="no mask, fused attention; shares the interchange graph's weights",
            ),
        ),
        parity=None,
        target="any CPU or GPU",
    )


def fp16_variant(model: EncoderModel, folder: Path) -> Variant:
    with WeightFile(folder / "model_fp16.onnx_data") as weights:
        graphs = (
            _write(
                HalfLowering(model, weights),
                "model_fp16.onnx",
                weights,
                target="any",
                note="softmax and QA head in fp32, normalization accumulates in fp32",
            ),
            _write(
                PackedCudaLowering(model, weights),
                "model_fp16_packed.onnx",
                weights,
                target="cuda",
                note="windows of any lengths joined end to end, fused operators; the QA head in fp32",
            ),
            _write(
                CudaLowering(model, weights),
                "model_fp16_cuda.onnx",
                weights,
                target="cuda",
                note="the same for windows of equal length, with the inputs that other programs have",
            ),
        )
    return Variant(name="fp16", graphs=graphs, parity=None, target="GPUs with fp16 arithmetic")


def _int8(
    model: EncoderModel,
    texts: Encoder,
    folder: Path,
    options: ExportOptions,
    stage: Callable[[str], None],
) -> Variant:
    """The plain graph, and where the model allows it the one for our own kernels.

    Args:
        model: The model.
        texts: The bundle's tokenizer.
        folder: Where the graphs go.
        options: How.
        stage: Told in a few words which step begins.
    """
    recipe = options.int8
    stage("observing activations")
    seen = recipe.observe(model, texts, options.cores)
    stage("rounding for the plain int8 graph")
    moved, quantized = recipe.quantize(model, seen)
    with WeightFile(folder / "model_int8.onnx_data") as plain_weights:
        graphs = [
            _write(
                Int8Lowering(moved, quantized, plain_weights),
                "model_int8.onnx",
                plain_weights,
                target="cpu",
                note="s8 weights, u8 activations; exact on every CPU",
            )
        ]
        if not all(layer.paired for layer in quantized.values()):
            graphs.append(
                _write(
                    DotProductLowering(moved, quantized, plain_weights),
                    "model_int8_dot_product.onnx",
                    plain_weights,
                    target="cpu-dot-product",
                    note="the same bits and the same weights, faster on CPUs with an 8-bit dot product",
                )
            )
    plain = {name for name, layer in quantized.items() if not layer.compensated}
    unfit = "layers are kept in fp32" if recipe.keep else unfit_for_kernels(model)
    if unfit is not None:
        stage(f"no graph for the int8 kernels: {unfit}")
    else:
        stage("rounding for the int8 kernels")
        moved, layers = quantize_for_kernels(model, seen)
        plain |= {name for name, layer in layers.items() if not layer.compensated}
        with WeightFile(folder / "model_int8_kernels.onnx_data") as weights:
            graphs.append(
                _kernels(kernel_graph(moved, layers, weights, plain_weights), weights, plain_weights)
            )
    if plain:
        stage(f"rounded to nearest, for want of usable statistics: {', '.join(sorted(plain))}")
    return Variant(
        name="int8", graphs=tuple(graphs), parity=None, target="any CPU, fastest with an 8-bit dot product"
    )


def _kernels(graph: onnx.ModelProto, weights: WeightFile, tables: WeightFile) -> Graph:
    return _written(
        graph,
        "model_int8_kernels.onnx",
        (weights, tables),
        target="cpu-kernels",
        layout="packed",
        note="FastSpan's own operator: a scale a row, windows of any lengths joined end to end; shares the "
        "plain graph's embeddings",
    )


def _write(lowering: Lowering, name: str, weights: WeightFile, *, target: Target, note: str) -> Graph:
    """Lower, and write the graph beside its weights."""
    return _written(lowering.lower(), name, (weights,), target=target, layout=lowering.layout, note=note)


def _written(
    graph: onnx.ModelProto,
    name: str,
    files: Sequence[WeightFile],
    *,
    target: Target,
    layout: Layout,
    note: str,
) -> Graph:
    """Write a graph beside its weights, and check it as onnx.checker does."""
    path = files[0].path.with_name(name)
    path.write_bytes(graph.SerializeToString())
    files[0].flush()
    onnx.checker.check_model(str(path))
    place = path.parent.name
    return Graph(
        file=f"{place}/{name}",
        target=target,
        layout=layout,
        inputs=tuple(value.name for value in graph.graph.input),
        data=tuple(f"{place}/{file.path.name}" for file in files),
        opset=OPSET,
        ir_version=IR_VERSION,
        note=note,
    )

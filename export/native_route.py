"""Our own lowering of BERT-like encoders: every variant's graphs, written into a bundle's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import onnx

from fastspan.bundle.variants import Graph, Target, Variant, VariantName
from fastspan.export.graphs.builder import IR_VERSION, OPSET, WeightFile
from fastspan.export.graphs.cuda_graphs import CudaLowering, PackedCudaLowering
from fastspan.export.graphs.encoder_graph import Lowering
from fastspan.export.graphs.float_graphs import CpuLowering, HalfLowering
from fastspan.export.graphs.model import Encoder
from fastspan.export.int8.graph import Int8Lowering
from fastspan.export.int8.recipe import Int8Recipe
from fastspan.text.encoder import Encoder as TextEncoder

__all__ = ["lower_natively"]


def lower_natively(
    encoder: Encoder,
    text_encoder: TextEncoder,
    folder: Path,
    variants: Sequence[VariantName],
    recipe: Int8Recipe,
    threads: int,
    progress: Callable[[str], None],
) -> list[Variant]:
    """Write the graphs of ``variants`` into ``folder``, a bundle's ``onnx`` folder.

    The fp32 variant is always written: it is the interchange graph.

    Returns:
        The variants, their parity not yet measured.
    """
    made = []
    for name in ("fp32", "fp16", "int8"):
        if name != "fp32" and name not in variants:
            continue
        progress(f"lowering to {name}")
        if name == "fp32":
            made.append(_fp32(encoder, folder))
        elif name == "fp16":
            made.append(_fp16(encoder, folder))
        else:
            made.append(_int8(encoder, text_encoder, folder, recipe, threads, progress))
    return made


def _fp32(encoder: Encoder, folder: Path) -> Variant:
    with WeightFile(folder / "model.onnx_data") as weights:
        graphs = (
            _write(Lowering(encoder, weights), "model.onnx", weights, target="any", note="interchange"),
            _write(
                CpuLowering(encoder, weights),
                "model_cpu.onnx",
                weights,
                target="cpu",
                note="no mask, fused attention; shares the interchange graph's weights",
            ),
        )
    return Variant(name="fp32", graphs=graphs, parity=None, target="any CPU or GPU")


def _fp16(encoder: Encoder, folder: Path) -> Variant:
    with WeightFile(folder / "model_fp16.onnx_data") as weights:
        graphs = (
            _write(
                HalfLowering(encoder, weights),
                "model_fp16.onnx",
                weights,
                target="any",
                note="softmax and QA head in fp32, normalization accumulates in fp32",
            ),
            _write(
                PackedCudaLowering(encoder, weights),
                "model_fp16_packed.onnx",
                weights,
                target="cuda",
                note="windows of any lengths joined end to end, fused operators; the QA head in fp32",
            ),
            _write(
                CudaLowering(encoder, weights),
                "model_fp16_cuda.onnx",
                weights,
                target="cuda",
                note="the same for windows of equal length, with the inputs that other programs have",
            ),
        )
    return Variant(name="fp16", graphs=graphs, parity=None, target="GPUs with fp16 arithmetic")


def _int8(
    encoder: Encoder,
    text_encoder: TextEncoder,
    folder: Path,
    recipe: Int8Recipe,
    threads: int,
    progress: Callable[[str], None],
) -> Variant:
    progress("observing activations")
    encoder, quantized = recipe.quantize(encoder, text_encoder, threads)
    progress("writing int8")
    with WeightFile(folder / "model_int8.onnx_data") as weights:
        graph = _write(
            Int8Lowering(encoder, quantized, weights),
            "model_int8.onnx",
            weights,
            target="cpu",
            note="s8 weights, u8 activations; exact on every CPU",
        )
    return Variant(
        name="int8", graphs=(graph,), parity=None, target="any CPU, fastest with an 8-bit dot product"
    )


def _write(lowering: Lowering, name: str, weights: WeightFile, *, target: Target, note: str) -> Graph:
    """Lower, write the graph beside its weights, and check it as onnx.checker does."""
    model = lowering.lower()
    path = weights.path.with_name(name)
    path.write_bytes(model.SerializeToString())
    weights.flush()
    onnx.checker.check_model(str(path))
    place = path.parent.name
    return Graph(
        file=f"{place}/{name}",
        target=target,
        layout=lowering.layout,
        inputs=tuple(value.name for value in model.graph.input),
        data=(f"{place}/{weights.path.name}",),
        opset=OPSET,
        ir_version=IR_VERSION,
        note=note,
    )

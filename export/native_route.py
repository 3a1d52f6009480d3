"""Our own lowering of BERT-like encoders: every variant's graphs, written into a bundle's folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import onnx

from fastspan.encoding import Encoder as TextEncoder
from fastspan.export.architecture import Encoder
from fastspan.export.calibration import calibration_windows, observe_inputs
from fastspan.export.lowering.builder import IR_VERSION, OPSET, WeightFile
from fastspan.export.lowering.encoder_graph import Lowering
from fastspan.export.lowering.targets import CpuLowering, HalfLowering, Int8Lowering, quantize_encoder
from fastspan.variants import Graph, Target, Variant, VariantName

__all__ = ["Int8Recipe", "lower_natively"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Recipe:
    """How int8 is made.

    Attributes:
        texts: JSONL file of ``question`` and ``context`` to observe activations on; None: the
            project's own texts.
        windows: Most windows to observe.
        keep: Names of linear layers that stay fp32.
    """

    texts: Path | None = None
    windows: int = 16
    keep: Collection[str] = ()


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
        graph = _write(
            HalfLowering(encoder, weights),
            "model_fp16.onnx",
            weights,
            target="any",
            note="softmax and QA head in fp32, normalization accumulates in fp32",
        )
    return Variant(name="fp16", graphs=(graph,), parity=None, target="GPUs with fp16 arithmetic")


def _int8(
    encoder: Encoder,
    text_encoder: TextEncoder,
    folder: Path,
    recipe: Int8Recipe,
    threads: int,
    progress: Callable[[str], None],
) -> Variant:
    progress("observing activations")
    windows = calibration_windows(text_encoder, recipe.windows, recipe.texts)
    quantized = quantize_encoder(encoder, observe_inputs(encoder, windows, threads), recipe.keep)
    progress("writing int8")
    with ExitStack() as stack:
        weights = stack.enter_context(WeightFile(folder / "model_int8.onnx_data"))
        unsigned = stack.enter_context(WeightFile(folder / "model_int8_u8.onnx_data"))
        graphs = (
            _write(
                Int8Lowering(encoder, quantized, weights),
                "model_int8.onnx",
                weights,
                target="cpu-dot",
                note="s8 weights, for CPUs with an 8-bit dot product",
            ),
            _write(
                Int8Lowering(encoder, quantized, weights, unsigned),
                "model_int8_u8.onnx",
                weights,
                unsigned,
                target="cpu",
                note="the same integers stored as u8, for x86 CPUs whose u8 × s8 product saturates",
            ),
        )
    return Variant(name="int8", graphs=graphs, parity=None, target="AVX-512 VNNI, AVX-VNNI, Arm dot product")


def _write(lowering: Lowering, name: str, *weights: WeightFile, target: Target, note: str) -> Graph:
    """Lower, write the graph beside its weights, and check it as onnx.checker does."""
    model = lowering.lower()
    path = weights[0].path.with_name(name)
    path.write_bytes(model.SerializeToString())
    for file in weights:
        file.flush()
    onnx.checker.check_model(str(path))
    place = path.parent.name
    return Graph(
        file=f"{place}/{name}",
        target=target,
        layout="padded" if lowering.masked else "exact",
        inputs=tuple(value.name for value in model.graph.input),
        data=tuple(f"{place}/{file.path.name}" for file in weights),
        opset=OPSET,
        ir_version=IR_VERSION,
        note=note,
    )

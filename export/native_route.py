"""Our own lowering of BERT-like encoders: every variant's graphs, written into a bundle's folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from fastspan.bundle.variants import Graph, Target, Variant, VariantName
from fastspan.export.architecture import Encoder
from fastspan.export.calibration import calibration_windows, observe_inputs
from fastspan.export.centring import centred
from fastspan.export.lowering.builder import IR_VERSION, OPSET, WeightFile
from fastspan.export.lowering.cuda_targets import CudaLowering, PackedCudaLowering
from fastspan.export.lowering.encoder_graph import Lowering
from fastspan.export.lowering.int8_target import (
    SECOND_PASS_SHARE,
    Int8Lowering,
    quantize_encoder,
    quantized_layers,
)
from fastspan.export.lowering.targets import CpuLowering, HalfLowering
from fastspan.export.quantization import QuantizedLinear
from fastspan.text.encoder import Encoder as TextEncoder

__all__ = ["Int8Recipe", "lower_natively"]

# Texts × parameters that may be observed: all 64 texts for small models, 16 for large ones.
_OBSERVED_WORK = 700_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Recipe:
    """How int8 is made.

    Attributes:
        texts: JSONL file of ``question`` and ``context`` to observe activations on; None: the
            project's own texts.
        windows: Most texts to observe; None: as many as a model of this size affords, from 16 to 64.
        keep: Names of linear layers that stay fp32.
        second_pass_share: How many more multiplications second passes may cost (see ``quantize_encoder``);
            0 makes the fastest graph.
    """

    texts: Path | None = None
    windows: int | None = None
    keep: Collection[str] = ()
    second_pass_share: float = SECOND_PASS_SHARE

    def quantize(
        self, encoder: Encoder, texts: TextEncoder, threads: int
    ) -> tuple[Encoder, dict[str, QuantizedLinear]]:
        """Observe the encoder on the texts, centre its activations and quantize its layers."""
        parameters = sum(linear.weight.size for linear in quantized_layers(encoder).values())
        affordable = min(64, max(16, _OBSERVED_WORK // parameters))
        windows = calibration_windows(texts, self.windows or affordable, self.texts)
        encoder, seen = centred(encoder, observe_inputs(encoder, windows, threads))
        return encoder, quantize_encoder(encoder, seen, self.keep, self.second_pass_share)


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

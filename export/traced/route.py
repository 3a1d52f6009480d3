"""Architectures without a native lowering: traced by optimum, fused and quantized by ONNX Runtime's tools.

fp32 is the traced graph with its constants folded, in standard operators: the interchange graph. fp16 and
int8 start from that graph with operators fused, where fusing leaves the logits alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx

from fastspan.bundle.variants import Graph, Target, Variant, VariantName
from fastspan.errors import ParityError
from fastspan.export.checkpoint.reader import Checkpoint
from fastspan.export.third_party import reported, undisturbed
from fastspan.export.traced.graph_files import checked, data_file
from fastspan.export.traced.precision import fold, fuse, to_half, to_int8
from fastspan.export.traced.probe import Probe
from fastspan.export.traced.trace import trace
from fastspan.export.verification.pytorch_reference import load_model, model_logits

__all__ = ["lower_with_optimum"]

Floats = npt.NDArray[np.float32]

# Differences of logits, as ``Probe.difference`` measures them. What a trace froze by mistake shows in the
# first digits; another order of summation shows in fp32's last.
_TRACE_TOLERANCE = 1e-3
_FUSION_TOLERANCE = 1e-4


def lower_with_optimum(
    checkpoint: Checkpoint,
    onnx_folder: Path,
    variants: Sequence[VariantName],
    progress: Callable[[str], None],
) -> list[Variant]:
    """Write the graphs of ``variants`` into a bundle's ``onnx`` folder.

    All graphs are padded: inputs ``input_ids``, ``attention_mask`` and, where the model tells segments apart,
    ``token_type_ids``, int64 of (batch, length); outputs ``start_logits`` and ``end_logits``, float32 of
    (batch, length). The fp32 variant is always written: it is the interchange graph.

    Args:
        checkpoint: The model.
        onnx_folder: The folder to write to, made if missing; temporary files lie in a folder beside it.
        variants: Which variants to make.
        progress: Told in a few words which step begins.

    Returns:
        The variants, fp32 first, their parity and size not yet measured.

    Raises:
        CheckpointError: transformers or optimum does not know the architecture, the weights do not fill the
            model, the graph runs on batches of one shape only, or has no layer that int8 could quantize.
        ParityError: The graph is not the model on batches of other shapes than the traced one.
        MissingDependency: optimum, PyTorch, transformers or ONNX Runtime is not installed.
    """
    onnx_folder.mkdir(parents=True, exist_ok=True)
    with undisturbed(), TemporaryDirectory(prefix=".optimum-", dir=onnx_folder.parent) as name:
        workshop = _Workshop(Path(name), onnx_folder.name)
        made = _lower(checkpoint, workshop, frozenset(variants), progress)
        for file in workshop.done.iterdir():
            file.replace(onnx_folder / file.name)
    return made


@dataclass(frozen=True, slots=True)
class _Workshop:
    """A folder of unfinished graphs, and in it one of finished ones.

    Attributes:
        folder: The folder.
        place: Name of the bundle's folder that finished graphs will lie in.
    """

    folder: Path
    place: str

    @property
    def done(self) -> Path:
        """The folder of finished graphs, made when it is first asked for."""
        path = self.folder / "done"
        path.mkdir(exist_ok=True)
        return path

    def variant(self, name: VariantName, path: Path, target: str, *note: str) -> Variant:
        """Describe a finished graph, once it is sure that it is valid."""
        model = checked(path)
        kind: Target = "cpu" if name == "int8" else "any"
        data = data_file(path)
        graph = Graph(
            file=f"{self.place}/{path.name}",
            target=kind,
            layout="padded",
            inputs=tuple(value.name for value in model.graph.input),
            data=(f"{self.place}/{data.name}",) if data.exists() else (),
            opset=next(entry.version for entry in model.opset_import if entry.domain == ""),
            ir_version=model.ir_version,
            note="; ".join(note),
        )
        return Variant(name=name, graphs=(graph,), parity=None, target=target)


def _lower(
    checkpoint: Checkpoint,
    workshop: _Workshop,
    variants: frozenset[VariantName],
    progress: Callable[[str], None],
) -> list[Variant]:
    traced, plain = workshop.folder / "traced.onnx", workshop.done / "model.onnx"
    origin, probe, expected = _traced(checkpoint, traced, progress)
    progress("lowering to fp32")
    with reported(
        "The graph that optimum traced does not run on batches of every shape",
        "the architecture's code depends on the shape in a way that cannot be exported",
    ):
        fold(traced, plain)
        logits = probe.logits(plain)
    difference = probe.difference(expected, logits)
    # Written so that a difference that is not a number fails.
    if not difference <= _TRACE_TOLERANCE:
        raise ParityError(
            f"The graph that optimum traced from {checkpoint.folder} is not the model on batches of other "
            f"shapes (its logits differ by {difference:.2g} of the largest): the architecture's code depends "
            "on the shape in a way that cannot be exported."
        )
    made = [workshop.variant("fp32", plain, "any CPU or GPU", origin, "standard operators")]
    if variants <= {"fp32"}:
        return made

    progress("fusing operators")
    with reported("ONNX Runtime's tools cannot fuse the graph", "export the fp32 variant alone"):
        base, fused = _fused(plain, workshop.folder / "fused.onnx", probe, logits)
    if "fp16" in variants:
        progress("lowering to fp16")
        path = workshop.done / "model_fp16.onnx"
        with reported("ONNX Runtime's tools cannot convert the graph to fp16", "leave the fp16 variant out"):
            wide = to_half(base, path, probe.observe(base, workshop.folder / "observed.onnx"))
            kept = f"softmax, QA head and {wide} nodes of large values in fp32"
            made.append(workshop.variant("fp16", path, "GPUs with fp16 arithmetic", origin, fused, kept))
            probe.logits(path)
    if "int8" in variants:
        progress("lowering to int8")
        path = workshop.done / "model_int8.onnx"
        with reported("ONNX Runtime's tools cannot quantize the graph", "leave the int8 variant out"):
            what = to_int8(base, path, workshop.folder / "quantized.onnx")
            kept = "attention and QA head in fp32"
            made.append(workshop.variant("int8", path, "any CPU", origin, fused, what, kept))
            probe.logits(path)
    return made


def _traced(
    checkpoint: Checkpoint, target: Path, progress: Callable[[str], None]
) -> tuple[str, Probe, list[Floats]]:
    """Trace the model. What made the graph, the batches to compare it on, and the model's logits for them."""
    progress("loading the model into PyTorch")
    model = load_model(checkpoint)
    progress("tracing the model with optimum")
    origin = trace(checkpoint, model, target)
    config = model.config
    probe = Probe.of(
        [value.name for value in onnx.load(target, load_external_data=False).graph.input],
        vocabulary=config.vocab_size,
        padding_id=getattr(config, "pad_token_id", None) or 0,
        # Models that number positions from behind the padding id take less than their configuration says.
        longest=max(2, (getattr(config, "max_position_embeddings", None) or 512) // 2),
    )
    return origin, probe, [model_logits(model, batch) for batch in probe.batches]


def _fused(plain: Path, target: Path, probe: Probe, logits: Sequence[Floats]) -> tuple[Path, str]:
    """The graph that fp16 and int8 are made from, and what was fused in it, for people."""
    fused = fuse(plain, target)
    if not fused:
        return plain, "nothing to fuse"
    if not probe.difference(logits, probe.logits(target)) <= _FUSION_TOLERANCE:
        return plain, "not fused, which would change its logits"
    return target, f"fused to {fused}"

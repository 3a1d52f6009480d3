"""Which layers int8 costs most: each quantized alone, everything else fp32."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastspan.bundle.variants import Graph
from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.read_tokenizer import read_tokenizer
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.checkpoint.source import resolve_source
from fastspan.export.graphs.builder import WeightFile
from fastspan.export.graphs.encoder_graph import Lowering
from fastspan.export.graphs.families import describe, unsupported_reason
from fastspan.export.graphs.float_graphs import CpuLowering
from fastspan.export.graphs.model import EncoderModel
from fastspan.export.int8.graph import Int8Lowering
from fastspan.export.int8.linear_layer import QuantizedLinear
from fastspan.export.int8.recipe import Int8Recipe
from fastspan.export.progress import Progress
from fastspan.export.verification.comparison import LogitPairs, compare, logits_of
from fastspan.export.verification.questions import encode
from fastspan.machine.cpu import usable_cores
from fastspan.runtime.session import OnnxSession, SessionSettings
from fastspan.text.encoder import EncodedPair
from fastspan.text.encoder import Encoder as TextEncoder

__all__ = ["Sensitivity", "int8_sensitivity"]

_TOKENS = 2000  # of verification questions: enough to rank layers by


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What quantizing one layer does to the logits.

    Attributes:
        layer: The layer's name; ``"all"`` for every one together.
        rms: Root mean square of the logits' differences from fp32.
        largest: The largest of them.
        equal_answers: Share of the questions with the same answer, in [0, 1].
        splits: Outlier channels' extra copies in its input.
        passes: How often the layer's input is multiplied; for ``"all"``, the most of any layer.
        weights: ``"s8"``, or ``"u8"`` where pairs do not keep to their limit; for ``"all"``, if any is.
    """

    layer: str
    rms: float
    largest: float
    equal_answers: float
    splits: int
    passes: int
    weights: str


def int8_sensitivity(
    source: str | os.PathLike[str],
    *,
    progress: Progress,
    revision: str | None = None,
    recipe: Int8Recipe | None = None,
    threads: int | None = None,
) -> list[Sensitivity]:
    """Quantize a checkpoint's layers one at a time and measure what each costs, most costly first.

    Raises:
        CheckpointError: The checkpoint cannot be read, or has no native lowering.
    """
    recipe = recipe or Int8Recipe()
    cores = threads or usable_cores()
    checkpoint = read_checkpoint(resolve_source(os.fspath(source), revision))
    if (reason := unsupported_reason(checkpoint.config)) is not None:
        raise CheckpointError(f"The int8 report is for architectures with a native lowering: {reason}.")
    encoder = describe(checkpoint.config, checkpoint.weights)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = read_tokenizer(checkpoint.files, checkpoint.config)
        (folder / "tokenizer.json").write_text(tokenizer.json, encoding="utf-8")
        texts = TextEncoder.from_folder(
            folder, segment_ids=encoder.takes_segment_ids, max_positions=encoder.max_positions
        )
        encoder, quantized = recipe.quantize(encoder, recipe.observe(encoder, texts, cores))
        longest = min(384, encoder.max_positions)
        pairs = encode(texts, _TOKENS, longest, min(128, longest // 3))
        reference = _run(CpuLowering(encoder), folder, pairs, cores)
        found = []
        with progress.bar("quantizing one layer at a time", len(quantized)) as step:
            for layer, linear in quantized.items():
                logits = _run_int8(encoder, {layer: linear}, folder, pairs, cores)
                found.append(_sensitivity(layer, {layer: linear}, pairs, reference, logits))
                step()
        logits = _run_int8(encoder, quantized, folder, pairs, cores)
        together = _sensitivity("all", quantized, pairs, reference, logits)
    return [together, *sorted(found, key=lambda each: -each.rms)]


def _run_int8(
    encoder: EncoderModel,
    quantized: Mapping[str, QuantizedLinear],
    folder: Path,
    pairs: Sequence[EncodedPair],
    threads: int,
) -> LogitPairs:
    """Run the int8 graph, with only these layers quantized."""
    with WeightFile(folder / "weights") as weights:
        return _run(Int8Lowering(encoder, quantized, weights), folder, pairs, threads, weights)


def _run(
    lowering: Lowering, folder: Path, pairs: Sequence[EncodedPair], threads: int, *weights: WeightFile
) -> LogitPairs:
    model = lowering.lower()
    for file in weights:
        file.flush()
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    graph = Graph(
        file="model.onnx",
        target="cpu",
        layout="exact",
        inputs=tuple(value.name for value in model.graph.input),
        opset=model.opset_import[0].version,
        ir_version=model.ir_version,
    )
    settings = SessionSettings(provider="CPUExecutionProvider", threads=threads, spinning=True)
    return logits_of(OnnxSession(folder, graph, settings), pairs, lambda: None)


def _sensitivity(
    layer: str,
    quantized: Mapping[str, QuantizedLinear],
    pairs: Sequence[EncodedPair],
    reference: LogitPairs,
    found: LogitPairs,
) -> Sensitivity:
    comparison = compare(pairs, reference, found)
    squares = [
        np.square(a - b)
        for one, other in zip(reference, found, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    return Sensitivity(
        layer=layer,
        rms=float(np.sqrt(np.concatenate(squares).mean())),
        largest=comparison.largest_difference,
        equal_answers=comparison.equal_answers,
        splits=sum(linear.extra.size for linear in quantized.values()),
        passes=max(linear.passes for linear in quantized.values()),
        weights="s8" if all(linear.paired for linear in quantized.values()) else "u8",
    )

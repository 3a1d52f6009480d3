"""Observes what each linear layer's input looks like on real text, for quantization."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import onnx

from fastspan.config import AnswerOptions
from fastspan.encoding import Encoder as TextEncoder
from fastspan.encoding import Window
from fastspan.errors import DataError
from fastspan.export.architecture import Encoder, Linear
from fastspan.export.lowering.targets import CpuLowering
from fastspan.export.quantization import InputStatistics
from fastspan.providers import import_onnxruntime

__all__ = ["calibration_windows", "observe_inputs"]


class _Tapped(CpuLowering):
    """The fp32 graph with every linear layer's input as a further output."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.taps: dict[str, str] = {}

    def linear(self, name: str, linear: Linear, rows: str) -> str:
        # Query, key and value are one layer once quantized, and read the same rows.
        self.taps[name.replace(".attention.query", ".attention.projection")] = rows
        return super().linear(name, linear, rows)


def calibration_windows(text_encoder: TextEncoder, limit: int, source: Path | None = None) -> list[Window]:
    """Encode calibration texts, the project's own or a JSONL file of ``question`` and ``context``.

    Raises:
        DataError: A line is no object with these two texts.
    """
    file = source or resources.files("fastspan.export") / "data" / "calibration.jsonl"
    questions, contexts = [], []
    for number, line in enumerate(file.read_text(encoding="utf-8").strip().split("\n")[:limit], start=1):
        try:
            record = json.loads(line)
            questions.append(str(record["question"]))
            contexts.append(str(record["context"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{file}, line {number}: expected an object with "question" and "context" ({error}).'
            ) from error
    pairs = text_encoder.encode(questions, contexts, AnswerOptions())
    return [window for pair in pairs for window in pair.windows]


def observe_inputs(encoder: Encoder, windows: Iterable[Window], threads: int) -> dict[str, InputStatistics]:
    """Run the fp32 model over ``windows`` and gather statistics of every linear layer's input.

    Returns:
        Statistics by the layer names of ``quantized_layers``.
    """
    lowering = _Tapped(encoder)
    model = lowering.lower()
    for value in dict.fromkeys(lowering.taps.values()):
        model.graph.output.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # The values to be observed must not be fused away.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = list(dict.fromkeys(lowering.taps.values()))
    seen: dict[str, InputStatistics] = {}
    for window in windows:
        feeds = {"input_ids": window.input_ids[None]}
        if encoder.takes_segment_ids:
            feeds["token_type_ids"] = window.type_ids[None]
        for value, rows in zip(values, session.run(values, feeds), strict=True):
            now = InputStatistics.of(rows)
            seen[value] = seen[value].joined(now) if value in seen else now
    return {name: seen[value] for name, value in lowering.taps.items() if value in seen}

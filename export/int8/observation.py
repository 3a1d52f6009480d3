"""Observes what each linear layer's input looks like on real text, for quantization."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from fastspan.bundle.strict_json import named
from fastspan.bundle.whole_files import refuse_device
from fastspan.errors import DataError
from fastspan.export.graphs.float_graphs import CpuLowering
from fastspan.export.graphs.model import EncoderModel, Linear, Norm
from fastspan.export.int8.linear_layer import InputStatistics
from fastspan.options import AnswerOptions
from fastspan.runtime.providers import import_onnxruntime
from fastspan.text.encoder import Encoder as TextEncoder
from fastspan.text.encoder import Window

__all__ = ["calibration_windows", "observe_inputs"]

_ROWS = 768  # tokens observed together


class _Tapped(CpuLowering):
    """The fp32 graph; knows every linear layer's input, and the sum that its output is normalized in."""

    def __init__(self, encoder: EncoderModel) -> None:
        super().__init__(encoder)
        self.taps: dict[str, str] = {}
        self.sums: dict[str, str] = {}

    def linear(self, name: str, linear: Linear, rows: str) -> str:
        """Rows of inputs, (tokens, in), to rows of outputs, (tokens, out); ``rows`` is remembered."""
        # Query, key and value are one layer once quantized, and read the same rows.
        if not name.endswith((".attention.key", ".attention.value")):
            self.taps[name.replace(".attention.query", ".attention.projection")] = rows
        return super().linear(name, linear, rows)

    def add_norm(self, name: str, norm: Norm, rows: str, residual: str) -> str:
        """``rows`` is the output of a linear layer, and its name is the layer's."""
        self.sums[rows] = f"{name}.sum"
        return super().add_norm(name, norm, rows, residual)


def calibration_windows(
    text_encoder: TextEncoder, limit: int, source: Path | None = None, longest: int = 384
) -> list[Window]:
    """Encode calibration texts, the project's own or a JSONL file of ``question`` and ``context``.

    Args:
        text_encoder: The bundle's.
        limit: How many texts to take at most.
        source: The file; None: the project's own texts.
        longest: Longest window, in tokens.

    Raises:
        DataError: The file cannot be read, or a line is no object with these two texts.
    """
    file = source or Path(str(resources.files("fastspan.export"))) / "data" / "calibration.jsonl"
    questions, contexts = [], []
    try:
        refuse_device(file)
        lines = file.read_text(encoding="utf-8-sig").strip().split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is not UTF-8; convert the file.") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}).") from error
    for number, line in enumerate(lines[:limit], start=1):
        try:
            record = json.loads(line)
            questions.append(str(record["question"]))
            contexts.append(str(record["context"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{file}, line {number}: expected an object with "question" and "context" '
                f"({named(str(error))})."
            ) from error
    options = AnswerOptions(max_length=longest, overlap=min(128, longest // 3), truncate_question=True)
    pairs = text_encoder.encode(questions, contexts, options)
    return [window for pair in pairs for window in pair.windows]


def observe_inputs(
    encoder: EncoderModel, windows: Iterable[Window], threads: int
) -> dict[str, InputStatistics]:
    """Run the fp32 model over ``windows`` and gather statistics of every linear layer's input.

    Several windows run at a time, each on one thread: how ONNX Runtime shares one run out among threads shows
    in the last digits, and weights are rounded by them.

    Returns:
        Statistics by the layer names of ``quantized_layers``.
    """
    lowering = _Tapped(encoder)
    model = lowering.lower()
    values = list(dict.fromkeys([*lowering.taps.values(), *lowering.sums.values()]))
    for value in values:
        model.graph.output.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    # The values to be observed must not be fused away.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    seen: dict[str, InputStatistics] = {}

    def run(window: Window) -> list[npt.NDArray[np.float32]]:
        feeds = {"input_ids": window.input_ids[None]}
        if encoder.takes_segment_ids:
            feeds["token_type_ids"] = window.type_ids[None]
        rows: list[npt.NDArray[np.float32]] = session.run(values, feeds)
        return rows

    with ThreadPoolExecutor(threads) as pool:
        for group in _groups(windows):
            runs = list(pool.map(run, group))
            found = {
                value: np.concatenate(rows)
                for value, rows in zip(values, zip(*runs, strict=True), strict=True)
            }
            for name, value in lowering.taps.items():
                now = InputStatistics.of(found[value], found.get(lowering.sums.get(name, "")))
                seen[name] = seen[name].joined(now) if name in seen else now
    return seen


def _groups(windows: Iterable[Window]) -> Iterator[list[Window]]:
    """Windows whose second moments are worth one matrix product, few enough to keep their activations."""
    group: list[Window] = []
    for window in windows:
        group.append(window)
        if sum(len(each.input_ids) for each in group) >= _ROWS:
            yield group
            group = []
    if group:
        yield group

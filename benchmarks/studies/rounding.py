"""What each choice of the int8 kernels' rounding gives: equal answers with fp32, F1 and the logits' error.

``python -m fastspan.benchmarks.studies.rounding --data FILE`` rounds the checkpoint in several ways, answers
all questions of the file with each through the kernels, and writes ``rounding.md``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastspan.benchmarks.accuracy.squad_metric import per_question
from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet, open_data
from fastspan.benchmarks.reporting.document import Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.speed.environment import results_folder
from fastspan.bundle.variants import Graph
from fastspan.decoding.squad import decode_squad
from fastspan.errors import FastSpanError, MissingDependency
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.checkpoint.source import resolve_source
from fastspan.export.graphs.builder import IR_VERSION, OPSET
from fastspan.export.graphs.families import describe
from fastspan.export.graphs.float_graphs import CpuLowering
from fastspan.export.graphs.model import EncoderModel
from fastspan.export.int8.kernel_graph import kernel_graph
from fastspan.export.int8.kernel_layers import GroupOf, group_of, quantize_for_kernels
from fastspan.export.int8.linear_layer import InputStatistics
from fastspan.export.int8.recipe import Int8Recipe
from fastspan.export.verification.comparison import LogitPairs, logits_of, windows_of
from fastspan.kernels import unavailable_reason
from fastspan.machine.cpu import usable_cores
from fastspan.options import AnswerOptions
from fastspan.runtime.kernel_session import KernelSession
from fastspan.runtime.providers import import_onnxruntime
from fastspan.runtime.session import SessionSettings
from fastspan.runtime.workers import by_pair
from fastspan.text.encoder import EncodedPair
from fastspan.text.encoder import Encoder as TextEncoder

__all__ = ["CHOICES", "RoundingChoice", "main"]


@dataclass(frozen=True, slots=True)
class RoundingChoice:
    """One way to round.

    Attributes:
        name: For people.
        groups: Which channels share a scale.
        observed: Whether inputs are centred and prescaled, and errors of weights made up for.
    """

    name: str
    groups: GroupOf
    observed: bool = True


def _one(_name: str, size: int, _layers: int) -> int:
    return size


def _at_most(most: int, inner: int) -> GroupOf:
    """Groups of the largest multiple of 64 up to ``most``; of inner feed-forward channels, ``inner``."""

    def group(name: str, size: int, _layers: int) -> int:
        limit = min(size, inner if name.endswith(".output") else most)
        return next(each for each in range(limit - limit % 64, 0, -64) if size % each == 0)

    return group


_WHOLE = 1 << 16
CHOICES = (
    RoundingChoice("a scale a row, weights to the nearest step", _one, observed=False),
    RoundingChoice("centred, prescaled, compensated", _one),
    RoundingChoice("and the second feed-forward layers in groups of 256", _at_most(_WHOLE, 256)),
    RoundingChoice("shipped: and groups in early layers", group_of),
    RoundingChoice("all in groups of 128", _at_most(128, 128)),
    RoundingChoice("all in groups of 64", _at_most(64, 64)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    description = (__doc__ or "").replace("`", "")
    parser = argparse.ArgumentParser(
        prog="python -m fastspan.benchmarks.studies.rounding", description=description
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        default=str(ROOT / "models" / "minilm-l6-squad2"),
        help="a checkpoint's folder or hub id (default: the bundled one)",
    )
    add("--data", help="questions, as fastspan eval reads them (default: the project's own)")
    add("--limit", type=int, help="ask the first so many questions only")
    add(
        "--out",
        type=Path,
        default=results_folder(ROOT / "benchmarks" / "results", "cpu"),
        help="folder for rounding.md (default: that of this kind of CPU in benchmarks/results)",
    )
    options = parser.parse_args(arguments)
    try:
        if (reason := unavailable_reason()) is not None:
            raise MissingDependency(f"The study runs the int8 kernels, but {reason}.")
        page = options.out / "rounding.md"
        write_text(page, markdown(_page(options.checkpoint, open_data(options.data, options.limit))))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _page(source: str, data: EvaluationSet) -> list[Block]:
    threads = usable_cores()
    checkpoint = read_checkpoint(resolve_source(source, None))
    model = describe(checkpoint.config, checkpoint.weights)
    texts = TextEncoder.from_folder(
        checkpoint.folder, segment_ids=model.takes_segment_ids, max_positions=model.max_positions
    )
    asked = [each.question for each in data.questions], [each.context for each in data.questions]
    pairs = texts.encode(*asked, AnswerOptions(truncate_question=True))
    seen = Int8Recipe().observe(model, texts, threads)
    expected = _fp32_logits(model, pairs, threads)
    rows = []
    for choice in CHOICES:
        found = _kernel_logits(model, seen, choice, pairs, threads)
        rows.append([choice.name, *_compared(data, pairs, expected, found)])
    return [
        Heading(1, f"How the int8 kernels round: {checkpoint.source}"),
        Paragraph(
            f"Against fp32, on {len(data.questions)} questions of {data.name}, at threshold 0. Written by "
            "`python -m fastspan.benchmarks.studies.rounding`."
        ),
        Table(("choice", "equal answers", "ΔF1", "rms of the logits' error"), rows),
    ]


def _fp32_logits(model: EncoderModel, pairs: Sequence[EncodedPair], threads: int) -> LogitPairs:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    graph = CpuLowering(model).lower().SerializeToString()
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = {given.name for given in session.get_inputs()}
    found = []
    for window in windows_of(pairs):
        values = {"input_ids": window.input_ids[None], "token_type_ids": window.type_ids[None]}
        feeds = {name: array for name, array in values.items() if name in names}
        start, end = session.run(("start_logits", "end_logits"), feeds)
        found.append((start[0], end[0]))
    return found


def _kernel_logits(
    model: EncoderModel,
    seen: dict[str, InputStatistics],
    choice: RoundingChoice,
    pairs: Sequence[EncodedPair],
    threads: int,
) -> LogitPairs:
    moved, layers = quantize_for_kernels(model, seen if choice.observed else {}, choice.groups)
    with tempfile.TemporaryDirectory() as name:
        made = kernel_graph(moved, layers)
        Path(name, "model.onnx").write_bytes(made.SerializeToString())
        graph = Graph(
            file="model.onnx",
            target="cpu-kernels",
            layout="packed",
            inputs=tuple(given.name for given in made.graph.input),
            opset=OPSET,
            ir_version=IR_VERSION,
        )
        settings = SessionSettings(provider="CPUExecutionProvider", threads=threads, spinning=True)
        return logits_of(KernelSession(Path(name), graph, settings), pairs, lambda: None)


def _compared(
    data: EvaluationSet, pairs: Sequence[EncodedPair], expected: LogitPairs, found: LogitPairs
) -> tuple[str, str, str]:
    """Equal answers, the difference in F1, and the rms of the logits' error, as texts."""
    places, scores = [], []
    for logits in (expected, found):
        starts, ends = (by_pair(pairs, [window[side] for window in logits]) for side in (0, 1))
        answers = [each.answer for each in decode_squad(pairs, starts, ends, AnswerOptions(), threshold=0.0)]
        places.append([None if each is None else (each.start, each.end) for each in answers])
        given = {
            question.id: "" if each is None else each.text
            for question, each in zip(data.questions, answers, strict=True)
        }
        scores.append(100 * float(per_question(data.questions, given)[1].mean()))
    equal = float(np.mean([one == other for one, other in zip(*places, strict=True)]))
    errors: npt.NDArray[np.float32] = np.concatenate(
        [a - b for one, other in zip(expected, found, strict=True) for a, b in zip(one, other, strict=True)]
    )
    return f"{equal:.2%}", f"{scores[1] - scores[0]:+.2f}", f"{np.sqrt(np.square(errors).mean()):.4f}"


if __name__ == "__main__":
    sys.exit(main())

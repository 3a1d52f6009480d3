"""What each choice of the int8 kernels' rounding gives: equal answers with fp32, F1 and the logits' error.

``python -m fastspan.benchmarks.studies.kernels.rounding --data FILE`` rounds the checkpoint in several ways,
answers all questions of the file with each through the kernels, and with the plain int8 graph for
comparison, and writes ``rounding.md``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from fastspan.benchmarks.accuracy.squad_metric import per_question
from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet, open_data
from fastspan.benchmarks.reporting.document import Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.speed.machine.environment import results_folder
from fastspan.bundle.variants import Graph, Layout, Target
from fastspan.decoding.squad import decode_squad
from fastspan.errors import FastSpanError, MissingDependency
from fastspan.export.checkpoint.calibration import read_calibration
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.checkpoint.source import resolve_source
from fastspan.export.graphs.builder import IR_VERSION, OPSET
from fastspan.export.graphs.families import describe
from fastspan.export.graphs.float_graphs import CpuLowering
from fastspan.export.graphs.model import EncoderModel
from fastspan.export.int8.graph import Int8Lowering
from fastspan.export.int8.kernel_graph import kernel_graph
from fastspan.export.int8.kernel_layers import GroupOf, group_of, quantize_for_kernels
from fastspan.export.int8.linear_layer import InputStatistics
from fastspan.export.int8.recipe import Int8Recipe
from fastspan.export.verification.comparison import LogitPairs, logits_of
from fastspan.kernels import unavailable_reason
from fastspan.machine.cpu import usable_cores
from fastspan.options import AnswerOptions
from fastspan.runtime.kernel_session import KernelSession
from fastspan.runtime.session import OnnxSession, SessionSettings
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


def _early(groups: GroupOf, others: GroupOf) -> GroupOf:
    """One choice for the first half of the layers, another one for the rest."""

    def group(name: str, size: int, layers: int) -> int:
        block = name.removeprefix("layer.").partition(".")[0]
        early = block.isdigit() and 2 * int(block) < layers
        return (groups if early else others)(name, size, layers)

    return group


_WHOLE = 1 << 16
CHOICES = (
    RoundingChoice("a scale a row, weights to the nearest step", _one, observed=False),
    RoundingChoice("a scale a row; centred, prescaled, compensated", _one),
    RoundingChoice("the same, the second feed-forward layer in groups of 384", _at_most(_WHOLE, 384)),
    RoundingChoice("the same, these groups of 256", _at_most(_WHOLE, 256)),
    RoundingChoice("and groups in the first two thirds of the layers (**shipped**)", group_of),
    RoundingChoice(
        "in the first half of the layers all in groups of 64", _early(_at_most(64, 64), _at_most(_WHOLE, 256))
    ),
    RoundingChoice("in all layers all in groups of 128", _at_most(128, 128)),
    RoundingChoice("in all layers all in groups of 64", _at_most(64, 64)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    description = (__doc__ or "").replace("`", "")
    parser = argparse.ArgumentParser(
        prog="python -m fastspan.benchmarks.studies.kernels.rounding", description=description
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
    recipe = Int8Recipe()
    seen = recipe.observe(model, texts, threads)
    expected = _plain_logits(CpuLowering(model), pairs, threads)
    calibration = read_calibration(checkpoint.files)
    thresholds = [0.0] if calibration is None else [0.0, calibration.no_answer.threshold]
    moved, layers = recipe.quantize(model, seen)
    rows = []
    plain = partial(_plain_logits, Int8Lowering(moved, layers), pairs, threads)
    for name, run in (
        ("the plain int8 graph, for comparison", plain),
        *((choice.name, partial(_kernel_logits, model, seen, choice, pairs, threads)) for choice in CHOICES),
    ):
        print(name, file=sys.stderr, flush=True)
        rows.append([name, *_compared(data, pairs, expected, run(), thresholds)])
    at = " and ".join(f"{threshold:.1f}" for threshold in thresholds)
    return [
        Heading(1, f"How the int8 kernels round: {checkpoint.source}"),
        Paragraph(
            f"Against fp32, on {len(data.questions):,} questions of {data.name}, at the no-answer threshold "
            f"{at}; F1 in points. The rms is that of the logits' error. Written by "
            "`python -m fastspan.benchmarks.studies.kernels.rounding`."
        ),
        Table(("choice", "equal answers", "ΔF1", "rms"), rows),
    ]


def _plain_logits(lowering: CpuLowering, pairs: Sequence[EncodedPair], threads: int) -> LogitPairs:
    """The logits of a graph of ONNX Runtime's own operators, one window at a time."""
    with tempfile.TemporaryDirectory() as name:
        made = lowering.lower()
        settings = SessionSettings(provider="CPUExecutionProvider", threads=threads, spinning=True)
        session = OnnxSession(Path(name), _written(made, Path(name), "cpu", "exact"), settings)
        return logits_of(session, pairs, lambda: None)


def _kernel_logits(
    model: EncoderModel,
    seen: dict[str, InputStatistics],
    choice: RoundingChoice,
    pairs: Sequence[EncodedPair],
    threads: int,
) -> LogitPairs:
    moved, layers = quantize_for_kernels(model, seen if choice.observed else {}, choice.groups)
    with tempfile.TemporaryDirectory() as name:
        graph = _written(kernel_graph(moved, layers), Path(name), "cpu-kernels", "packed")
        settings = SessionSettings(provider="CPUExecutionProvider", threads=threads, spinning=True)
        return logits_of(KernelSession(Path(name), graph, settings), pairs, lambda: None)


def _written(made: onnx.ModelProto, folder: Path, target: Target, layout: Layout) -> Graph:
    """A graph written into a folder with its weights inside."""
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return Graph(
        file="model.onnx",
        target=target,
        layout=layout,
        inputs=tuple(given.name for given in made.graph.input),
        opset=OPSET,
        ir_version=IR_VERSION,
    )


def _compared(
    data: EvaluationSet,
    pairs: Sequence[EncodedPair],
    expected: LogitPairs,
    found: LogitPairs,
    thresholds: Sequence[float],
) -> tuple[str, str, str]:
    """Equal answers and the difference in F1 at each threshold; the rms of the logits' error. As texts."""
    equal, gained = [], []
    for threshold in thresholds:
        places, scores = [], []
        for logits in (expected, found):
            starts, ends = (by_pair(pairs, [window[side] for window in logits]) for side in (0, 1))
            predictions = decode_squad(pairs, starts, ends, AnswerOptions(), threshold=threshold)
            answers = [each.answer for each in predictions]
            places.append([None if each is None else (each.start, each.end) for each in answers])
            given = {
                question.id: "" if each is None else each.text
                for question, each in zip(data.questions, answers, strict=True)
            }
            scores.append(100 * float(per_question(data.questions, given)[1].mean()))
        equal.append(float(np.mean([one == other for one, other in zip(*places, strict=True)])))
        gained.append(scores[1] - scores[0])
    errors: npt.NDArray[np.float32] = np.concatenate(
        [a - b for one, other in zip(expected, found, strict=True) for a, b in zip(one, other, strict=True)]
    )
    return (
        f"{' / '.join(f'{100 * share:.2f}' for share in equal)} %",
        " / ".join(f"{points:+.2f}" for points in gained),
        f"{np.sqrt(np.square(errors).mean()):.4f}",
    )


if __name__ == "__main__":
    sys.exit(main())

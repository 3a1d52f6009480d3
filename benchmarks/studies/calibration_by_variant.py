"""Whether one calibration serves every variant: each is judged on its own logits.

``python -m fastspan.benchmarks.studies.calibration_by_variant --data FILE`` answers one half of the questions
with every variant that runs here, and writes ``calibration-variants.md``. The halves are those of ``fastspan
calibrate``, and the half is the one that a calibration on this file was not fitted on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastspan.answerer import QuestionAnswerer
from fastspan.benchmarks.accuracy.evaluation import ask, evaluate, judge_confidence
from fastspan.benchmarks.accuracy.evaluation_table import with_interval
from fastspan.benchmarks.calibration.confidence_fit import split_halves
from fastspan.benchmarks.intervals import Interval
from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet, open_data
from fastspan.benchmarks.questions.squad_files import Question
from fastspan.benchmarks.reporting.document import NONE, Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.errors import BundleError, DataError, FastSpanError, ProviderError

__all__ = ["Choice", "main"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A way to run a bundle.

    Attributes:
        name: For people.
        variant: The variant.
        kernels: Whether FastSpan's own kernels run it, where there are some.
    """

    name: str
    variant: str
    kernels: bool = True


CHOICES = (
    Choice("fp32", "fp32"),
    Choice("fp16", "fp16"),
    Choice("int8, plain graph", "int8", kernels=False),
    Choice("int8, FastSpan's kernels", "int8"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    description = (__doc__ or "").replace("`", "")
    parser = argparse.ArgumentParser(
        prog="python -m fastspan.benchmarks.studies.calibration_by_variant", description=description
    )
    add = parser.add_argument
    add("--bundle", default=str(ROOT / "models" / "exported" / "minilm-l6-squad2"), help="a bundle's folder")
    add("--data", help="questions, as fastspan eval reads them (default: the project's own)")
    add("--every", type=int, default=1, metavar="N", help="take every Nth question only")
    add("--domain", help="judge this one of the bundle's calibrations")
    add(
        "--out",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        help="folder for calibration-variants.md",
    )
    options = parser.parse_args(arguments)
    try:
        if options.every < 1:
            raise DataError("--every takes a whole number of at least 1.")
        page = options.out / "calibration-variants.md"
        blocks = _page(options.bundle, open_data(options.data), options.every, options.domain)
        write_text(page, markdown(blocks))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _page(bundle: str, data: EvaluationSet, every: int, domain: str | None) -> list[Block]:
    _, holding = split_halves([question.context for question in data.questions])
    questions = [data.questions[n] for n in np.flatnonzero(holding)][::every]
    rows, missing = [], []
    for choice in CHOICES:
        try:
            rows.append(_row(choice, bundle, questions, domain))
        except (ProviderError, BundleError) as error:
            missing.append(f"{choice.name} is not judged: {error}")
    command = "python -m fastspan.benchmarks.studies.calibration_by_variant --data FILE"
    columns = ("variant", "EM", "F1", "ECE", "MacroCE", "AUROC", "AURC")
    return [
        Heading(1, "One calibration for every variant"),
        Paragraph(
            f"{len(questions):,} questions of {data.name}, of the half that a calibration on it is not "
            "fitted on, at the bundle's threshold. The confidence is that of every decision; 95% bootstrap "
            f"intervals over questions. Written by `{command}`."
        ),
        Table(columns, rows),
        *map(Paragraph, missing),
    ]


def _row(choice: Choice, bundle: str, questions: Sequence[Question], domain: str | None) -> list[str]:
    with QuestionAnswerer.load(
        bundle,
        variant=choice.variant,
        provider="cpu",
        kernels=choice.kernels,
        optimize_for="throughput",
        domain=domain,
    ) as qa:
        info = qa.info()
        if choice.variant == "int8" and choice.kernels != info.graph.endswith("_kernels.onnx"):
            raise ProviderError(info.reason)
        outcomes = ask(qa, questions, step=lambda: None)
    evaluation = evaluate(outcomes, info.no_answer_threshold)
    judged, _ = judge_confidence(outcomes, info.no_answer_threshold)
    scores = (with_interval(each) for each in (evaluation.overall.exact, evaluation.overall.f1))
    shares = (judged.ece, judged.macro_ce, judged.auroc, judged.aurc)
    return [choice.name, *scores, *map(_share, shares)]


def _share(found: Interval | None) -> str:
    return NONE if found is None else with_interval(found, digits=3)


if __name__ == "__main__":
    sys.exit(main())

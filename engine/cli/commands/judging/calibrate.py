"""``fastspan calibrate``: fit a bundle's no-answer threshold and confidence to questions."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fastspan.cli.argument_types import inner_share, number, path, positive
from fastspan.cli.arguments import (
    FOLDERS,
    LoadArguments,
    bundle_argument,
    completed_with,
    copy_option,
    domain_option,
    json_option,
    load_arguments,
    load_options,
    question_options,
    variant_option,
)
from fastspan.cli.commands import UsageError
from fastspan.cli.copied_bundle import commit_of, copied, own_bundle
from fastspan.cli.extras import extra
from fastspan.cli.outputs import ready_folder
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, one_line, table, write, write_json
from fastspan.errors import DataError, MissingDependency

if TYPE_CHECKING:
    from fastspan.answerer import QuestionAnswerer
    from fastspan.benchmarks.accuracy.thresholds import PrecisionCoverage
    from fastspan.benchmarks.calibration.confidence_fit import ReliabilityBin
    from fastspan.benchmarks.questions.evaluation_set import EvaluationSet
    from fastspan.bundle.folder import Bundle
    from fastspan.bundle.manifest import Manifest

NAME = "calibrate"
HELP = "fit a bundle's no-answer threshold and confidence to questions like yours"
EXAMPLES = (
    "fastspan calibrate models/exported/minilm-l6-squad2 --data questions.json --out calibration",
    "fastspan calibrate models/exported/minilm-l6-squad2 --data faq.jsonl --target-precision 0.9",
    "fastspan calibrate models/exported/minilm-l6-squad2 --data questions.json --sets",
    "fastspan calibrate models/exported/minilm-l6-squad2 --data law.jsonl --domain law",
)

_PASSAGES = 10


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan calibrate`` shares with other commands."""
    # One threshold serves every variant on every machine, so it is fitted on the one they all approximate.
    fitted = variant_option("fp32", "the precision to fit with", "which the others approximate")
    return [
        bundle_argument("the folder that fastspan export wrote, or a hub id; its manifest is updated"),
        question_options(
            "questions with and without answers, which the model was not trained on (the bundled one was on "
            "part of SQuAD 2.0's dev set): a file or a hub data set. One half, split by passage, is fitted "
            "on, the other reported on",
            required=True,
        ),
        domain_option("store it beside the general calibration, for calls and loads with this domain"),
        copy_option("the calibration"),
        json_option(),
        *load_options(fitted),
    ]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan calibrate``."""
    parser.add_argument(
        "--target-precision",
        type=_precision,
        metavar="P",
        help="the loosest threshold at which this share of the given answers matches exactly, such as 0.95 "
        "(default: the threshold with the best F1)",
    )
    parser.add_argument(
        "--confidence-level",
        type=inner_share,
        metavar="C",
        help="with --target-precision: promise it with this certainty, such as 0.9, for questions like "
        "these; the other half then tests the threshold (default: the fitting half reaches it)",
    )
    parser.add_argument(
        "--sets",
        action="store_true",
        help="calibrate questions over several passages instead: each question's passage is hidden among "
        "those of the data that share most words with the question",
    )
    parser.add_argument(
        "--passages",
        type=positive,
        metavar="N",
        help="with --sets: how many passages a set holds (default: 10)",
    )
    out = parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=path,
        help="write calibration.json, reliability.svg and precision-coverage.svg there; with --sets "
        "set-calibration.json in the place of the first",
    )
    completed_with(out, FOLDERS)


def run(arguments: Namespace) -> int:
    """Answer the questions, fit on one half, show the other before and after, and update the manifest."""
    from fastspan.answerer import QuestionAnswerer

    if arguments.confidence_level is not None and arguments.target_precision is None:
        raise UsageError("--confidence-level goes with --target-precision")
    if arguments.confidence_level is not None and not arguments.target_precision < 1:
        raise UsageError("no finite number of questions promises a precision of 1: ask for less")
    if arguments.passages is not None and not arguments.sets:
        raise UsageError("--passages goes with --sets")
    with extra("bench", NAME):
        from fastspan.benchmarks.calibration.plots import precision_coverage_plot, reliability_diagram
        from fastspan.benchmarks.calibration.table import BEFORE_AND_AFTER
        from fastspan.benchmarks.questions.evaluation_set import open_data
        from fastspan.benchmarks.reporting.files import write_text

    bundle = own_bundle(arguments.bundle, arguments.revision, arguments.copy_to)
    if arguments.out is not None:
        if find_spec("matplotlib") is None:
            raise MissingDependency("--out draws plots with matplotlib: pip install 'fastspan[bench]'.")
        ready_folder(arguments.out)
    data = open_data(arguments.data, arguments.limit)
    # A branch may have moved since the bundle was opened.
    how: LoadArguments = {**load_arguments(arguments), "revision": commit_of(arguments.bundle, bundle)}
    with QuestionAnswerer.load(arguments.bundle, optimize_for="throughput", **how) as qa:
        fitted = (_sets if arguments.sets else _contexts)(arguments, bundle.manifest, data, qa)
    if fitted.helps:
        fitted.store(bundle if arguments.copy_to is None else copied(bundle, arguments.copy_to))
    if arguments.out is not None:
        figures = json.dumps(fitted.figures, indent=2, allow_nan=False)
        write_text(
            arguments.out / ("set-calibration.json" if arguments.sets else "calibration.json"), f"{figures}\n"
        )
        reliability_diagram(fitted.bins, arguments.out / "reliability.svg")
        shown = fitted.threshold if fitted.threshold >= fitted.curve.thresholds[0] else None
        precision_coverage_plot(
            fitted.curve, arguments.out / "precision-coverage.svg", chosen_threshold=shown
        )
    if arguments.json:
        write_json(fitted.figures, indent=2)
    else:
        write(f"{fitted.opening}\n")
        write(f"{table(BEFORE_AND_AFTER, fitted.rows, Style(sys.stdout), right={1, 2})}\n")
        for note in fitted.notes:
            write(f"{note}\n")
        if fitted.helps:
            which = "" if arguments.domain is None else f" as {arguments.domain}"
            file = (arguments.copy_to or bundle.folder) / "fastspan.json"
            write(one_line(f"Stored in {file}{which}, for all its variants."))
    if not fitted.helps:
        raise DataError(
            "Nothing was stored: on the held-out questions, neither threshold nor confidence is as good as "
            "before. Take more questions, or others."
        )
    return 0


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    """What either kind of calibration comes to: what is shown, drawn and stored."""

    helps: bool
    figures: dict[str, Any]
    opening: str
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    threshold: float
    bins: Sequence[ReliabilityBin]
    curve: PrecisionCoverage
    store: Callable[[Bundle], None]


def _contexts(arguments: Namespace, manifest: Manifest, data: EvaluationSet, qa: QuestionAnswerer) -> _Fitted:
    """Calibrate questions over one context each."""
    from fastspan.benchmarks.accuracy.evaluation import ask
    from fastspan.benchmarks.calibration.calibrate import Present, calibrate
    from fastspan.benchmarks.calibration.storing import present_calibration, store
    from fastspan.benchmarks.calibration.table import notes, opening, rows
    from fastspan.export.progress import progress_on

    with progress_on(sys.stderr) as progress, progress.bar("answering", len(data.questions)) as step:
        outcomes = ask(qa, data.questions, step=step)
    found = calibrate(
        data,
        outcomes,
        qa.info().variant,
        present=Present.of(present_calibration(manifest, arguments.domain)),
        target_precision=arguments.target_precision,
        confidence_level=arguments.confidence_level,
    )
    return _Fitted(
        helps=found.helps,
        figures=found.to_dict(),
        opening=opening(found),
        rows=rows(found),
        notes=notes(found),
        threshold=found.threshold,
        bins=found.bins,
        curve=found.curve,
        store=lambda bundle: store(bundle, found, arguments.domain),
    )


def _sets(arguments: Namespace, manifest: Manifest, data: EvaluationSet, qa: QuestionAnswerer) -> _Fitted:
    """Calibrate questions over several passages each."""
    from fastspan.benchmarks.calibration.calibrate_sets import calibrate_sets, store_sets
    from fastspan.benchmarks.calibration.set_outcomes import read_all
    from fastspan.benchmarks.calibration.storing import present_calibration
    from fastspan.benchmarks.calibration.table import set_notes, set_opening, set_rows
    from fastspan.benchmarks.questions.passage_sets import passage_sets
    from fastspan.export.progress import progress_on

    sets = passage_sets(data.questions, arguments.passages or _PASSAGES)
    with progress_on(sys.stderr) as progress, progress.bar("reading", len(sets)) as step:
        outcomes = read_all(qa, sets, step)
    found = calibrate_sets(
        data,
        outcomes,
        qa.info().variant,
        present=present_calibration(manifest, arguments.domain),
        target_precision=arguments.target_precision,
        confidence_level=arguments.confidence_level,
    )
    return _Fitted(
        helps=found.helps,
        figures=found.to_dict(),
        opening=set_opening(found),
        rows=set_rows(found),
        notes=set_notes(found),
        threshold=found.fitted.threshold,
        bins=found.bins,
        curve=found.curve,
        store=lambda bundle: store_sets(bundle, found, arguments.domain),
    )


def _precision(text: str) -> float:
    value = number(text)
    if not 0.0 < value <= 1.0:
        raise ArgumentTypeError(f"{text!r} is not above 0 and at most 1")
    return value

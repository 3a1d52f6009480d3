"""``fastspan calibrate``: fit a bundle's no-answer threshold and confidence to questions."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from importlib.util import find_spec

from fastspan.cli.argument_types import number, path
from fastspan.cli.arguments import (
    FOLDERS,
    LoadArguments,
    bundle_argument,
    completed_with,
    copy_option,
    json_option,
    load_arguments,
    load_options,
    question_options,
    variant_option,
)
from fastspan.cli.copied_bundle import commit_of, copied, own_bundle
from fastspan.cli.extras import extra
from fastspan.cli.outputs import ready_folder
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, one_line, table, write, write_json
from fastspan.errors import DataError, MissingDependency

NAME = "calibrate"
HELP = "fit a bundle's no-answer threshold and confidence to questions like yours"
EXAMPLES = (
    "fastspan calibrate models/exported/minilm-l6-squad2 --data questions.json --out calibration",
    "fastspan calibrate models/exported/minilm-l6-squad2 --data faq.jsonl --target-precision 0.9",
)


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
    out = parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=path,
        help="write calibration.json, reliability.svg and precision-coverage.svg there",
    )
    completed_with(out, FOLDERS)


def run(arguments: Namespace) -> int:
    """Answer the questions, fit on one half, show the other before and after, and update the manifest."""
    from fastspan.answerer import QuestionAnswerer

    with extra("bench", NAME):
        from fastspan.benchmarks.accuracy.evaluation import ask
        from fastspan.benchmarks.calibration.calibrate import Present, calibrate, store
        from fastspan.benchmarks.calibration.plots import precision_coverage_plot, reliability_diagram
        from fastspan.benchmarks.calibration.table import BEFORE_AND_AFTER, left_out, opening, rows
        from fastspan.benchmarks.questions.evaluation_set import open_data
        from fastspan.benchmarks.reporting.files import write_text
        from fastspan.export.progress import progress_on

    bundle = own_bundle(arguments.bundle, arguments.revision, arguments.copy_to)
    if arguments.out is not None:
        if find_spec("matplotlib") is None:
            raise MissingDependency("--out draws plots with matplotlib: pip install 'fastspan[bench]'.")
        ready_folder(arguments.out)
    data = open_data(arguments.data, arguments.limit)
    # A branch may have moved since the bundle was opened.
    how: LoadArguments = {**load_arguments(arguments), "revision": commit_of(arguments.bundle, bundle)}
    with QuestionAnswerer.load(arguments.bundle, optimize_for="throughput", **how) as qa:
        variant = qa.info().variant
        with progress_on(sys.stderr) as progress, progress.bar("answering", len(data.questions)) as step:
            outcomes = ask(qa, data.questions, step=step)
    calibrated = calibrate(
        data,
        outcomes,
        variant,
        present=Present.of(bundle.manifest),
        target_precision=arguments.target_precision,
    )
    if calibrated.helps:
        store(bundle if arguments.copy_to is None else copied(bundle, arguments.copy_to), calibrated)
    if arguments.out is not None:
        figures = json.dumps(calibrated.to_dict(), indent=2, allow_nan=False)
        write_text(arguments.out / "calibration.json", f"{figures}\n")
        reliability_diagram(calibrated.bins, arguments.out / "reliability.svg")
        shown = calibrated.threshold if calibrated.threshold >= calibrated.curve.thresholds[0] else None
        precision_coverage_plot(
            calibrated.curve, arguments.out / "precision-coverage.svg", chosen_threshold=shown
        )
    if arguments.json:
        write_json(calibrated.to_dict(), indent=2)
    else:
        write(f"{opening(calibrated)}\n")
        write(f"{table(BEFORE_AND_AFTER, rows(calibrated), Style(sys.stdout), right={1, 2})}\n")
        if missing := left_out(calibrated):
            write(f"{missing}\n")
        if calibrated.helps:
            stored = (arguments.copy_to or bundle.folder) / "fastspan.json"
            write(one_line(f"Stored in {stored}, for all its variants."))
    if not calibrated.helps:
        raise DataError(
            "Nothing was stored: on the held-out questions, neither threshold nor confidence is as good as "
            "before. Take more questions, or others."
        )
    return 0


def _precision(text: str) -> float:
    value = number(text)
    if not 0.0 < value <= 1.0:
        raise ArgumentTypeError(f"{text!r} is not above 0 and at most 1")
    return value

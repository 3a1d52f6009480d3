"""``fastspan calibrate``: fit a bundle's no-answer threshold and confidence to questions."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from importlib.util import find_spec
from pathlib import Path

from fastspan.bundle.folder import Bundle
from fastspan.cli.arguments import number, positive
from fastspan.cli.extras import extra
from fastspan.cli.terminal import write, write_json
from fastspan.errors import MissingDependency

NAME = "calibrate"
HELP = "fit a bundle's no-answer threshold and confidence to questions like yours"
EXAMPLES = (
    "fastspan calibrate models/exported/minilm-l6-squad2 --data questions.json --out calibration",
    "fastspan calibrate models/exported/minilm-l6-squad2 --data faq.jsonl --target-precision 0.9",
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan calibrate``."""
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="the folder that fastspan export wrote; its manifest is updated"
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        required=True,
        help="SQuAD 2.0 as JSON, JSON lines, or a hub data set; with and without answers, which the "
        "model was not trained on (the bundled one was on part of SQuAD 2.0's dev set). One half, split by "
        "passage, is fitted on, the other reported on",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="take the first N questions only")
    parser.add_argument(
        "--target-precision",
        type=_share,
        metavar="P",
        help="the loosest threshold at which this share of the given answers matches exactly, such as 0.95 "
        "(default: the threshold with the best F1)",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        help="write calibration.json, reliability.svg and precision-coverage.svg there",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    # One threshold serves every variant on every machine, so it is fitted on the one they all approximate.
    parser.add_argument(
        "--variant",
        choices=("auto", "fp32", "fp16", "int8"),
        default="fp32",
        help="the precision to fit with (default: fp32, which the others approximate)",
    )
    parser.add_argument(
        "--provider", metavar="P", default="auto", help="where to run: auto, cpu, cuda … (default: auto)"
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads to compute with (default: the cores this process may use)",
    )


def run(arguments: Namespace) -> int:
    """Answer the questions, fit on one half, show the other before and after, and update the manifest."""
    from fastspan.answerer import QuestionAnswerer

    with extra("bench", NAME):
        from fastspan.benchmarks.accuracy.evaluation import ask
        from fastspan.benchmarks.calibration.calibrate import calibrate, store
        from fastspan.benchmarks.calibration.plots import precision_coverage_plot, reliability_diagram
        from fastspan.benchmarks.calibration.table import calibration_text
        from fastspan.benchmarks.questions.evaluation_set import open_data
        from fastspan.benchmarks.reporting.files import make_folder, write_text
        from fastspan.export.progress import progress_on

    bundle = Bundle.open(arguments.bundle)
    data = open_data(arguments.data, arguments.limit)
    if arguments.out is not None:
        if find_spec("matplotlib") is None:
            raise MissingDependency("--out draws plots with matplotlib: pip install 'fastspan[bench]'.")
        make_folder(arguments.out)
    with QuestionAnswerer.load(
        bundle.folder,
        variant=arguments.variant,
        provider=arguments.provider,
        threads=arguments.threads,
        optimize_for="throughput",
    ) as qa:
        variant = qa.info().variant
        with progress_on(sys.stderr) as progress, progress.bar("answering", len(data.questions)) as step:
            outcomes = ask(qa, data.questions, step=step)
    calibrated = calibrate(data, outcomes, variant, target_precision=arguments.target_precision)
    store(bundle, calibrated)
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
        write(calibration_text(calibrated))
        write()
        write(f"Stored in {bundle.folder / 'fastspan.json'}, for all its variants.")
    return 0


def _share(text: str) -> float:
    value = number(text)
    if not 0.0 < value <= 1.0:
        raise ArgumentTypeError(f"{text!r} is not above 0 and at most 1")
    return value

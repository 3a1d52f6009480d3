"""``fastspan eval``: how well a bundle answers a file of questions."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fastspan.cli.arguments import add_load_options, number, positive
from fastspan.cli.extras import extra
from fastspan.cli.terminal import write, write_json

NAME = "eval"
HELP = "measure a bundle's exact match and F1 on a SQuAD file"
EXAMPLES = (
    "fastspan eval models/exported/minilm-l6-squad2",
    "fastspan eval models/exported/minilm-l6-squad2 --data questions.json --variant int8 --json",
    "fastspan eval models/exported/minilm-l6-squad2 --data questions.json --predictions answers.json",
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan eval``."""
    parser.add_argument("bundle", metavar="BUNDLE", help="the folder that fastspan export wrote, or a hub id")
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="SQuAD 1.1 or 2.0 as JSON, JSON lines, or a hub data set such as squad_v2:validation, "
        "which the bundled model was partly trained on (default: the project's own questions)",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="take the first N questions only")
    parser.add_argument(
        "--no-answer-threshold",
        type=number,
        metavar="X",
        help="no answer when null score - best span score exceeds X (default: the bundle's)",
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="OUT",
        help='write every answer to this JSON file, {"id": "text"}, "" for none',
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_load_options(parser)


def run(arguments: Namespace) -> int:
    """Answer every question, and show the scores."""
    from fastspan.answerer import QuestionAnswerer

    with extra("export", NAME):
        from fastspan.benchmarks.accuracy.evaluation import ask, evaluate
        from fastspan.benchmarks.accuracy.evaluation_table import evaluation_text
        from fastspan.benchmarks.questions.evaluation_set import open_data
        from fastspan.benchmarks.reporting.files import make_folder, write_text
        from fastspan.export.progress import progress_on

    data = open_data(arguments.data, arguments.limit)
    if arguments.predictions is not None:
        make_folder(arguments.predictions.parent)
    with QuestionAnswerer.load(
        arguments.bundle,
        variant=arguments.variant,
        provider=arguments.provider,
        threads=arguments.threads,
        optimize_for="throughput",
    ) as qa:
        info = qa.info()
        given = arguments.no_answer_threshold
        threshold = info.no_answer_threshold if given is None else given
        with progress_on(sys.stderr) as progress, progress.bar("answering", len(data.questions)) as step:
            outcomes = ask(qa, data.questions, threshold=threshold, step=step)
    evaluation = evaluate(outcomes, threshold)
    if arguments.predictions is not None:
        answers = json.dumps(outcomes.texts(threshold), ensure_ascii=False, indent=1)
        write_text(arguments.predictions, f"{answers}\n")
    if arguments.json:
        asked = {"name": data.name, "sha256": data.sha256, "questions": len(data.questions)}
        write_json({"data": asked, "engine": info.to_dict(), **evaluation.to_dict()}, indent=2)
    else:
        write(evaluation_text(data, info, evaluation))
    return 0

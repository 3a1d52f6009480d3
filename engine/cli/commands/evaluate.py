"""``fastspan eval``: how well a bundle answers a file of questions."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from fastspan.cli.argument_types import path
from fastspan.cli.arguments import (
    FILES,
    bundle_argument,
    completed_with,
    decoding_options,
    domain_option,
    json_option,
    load_arguments,
    load_options,
    question_options,
)
from fastspan.cli.extras import extra
from fastspan.cli.outputs import ready_file
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, table, write, write_json

NAME = "eval"
HELP = "measure a bundle's exact match and F1 on questions with known answers"
EXAMPLES = (
    "fastspan eval models/exported/minilm-l6-squad2",
    "fastspan eval models/exported/minilm-l6-squad2 --data questions.json --variant int8 --json",
    "fastspan eval models/exported/minilm-l6-squad2 --data questions.json --predictions answers.json",
)


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan eval`` shares with other commands."""
    return [
        bundle_argument(),
        question_options(
            "questions and their answers: a file or a hub data set such as squad_v2:validation, which the "
            "bundled model was partly trained on (default: the project's own questions)"
        ),
        decoding_options(),
        domain_option("judge this one of the bundle's calibrations (default: the general one)"),
        json_option(),
        *load_options(),
    ]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan eval``."""
    out = parser.add_argument(
        "--predictions",
        type=path,
        metavar="OUT",
        help='write every answer to this JSON file, {"id": "text"}, "" for none',
    )
    completed_with(out, FILES)


def run(arguments: Namespace) -> int:
    """Answer every question, and show the scores."""
    from fastspan.answerer import QuestionAnswerer

    with extra("export", NAME):
        from fastspan.benchmarks.accuracy.evaluation import ask, evaluate, judge_confidence
        from fastspan.benchmarks.accuracy.evaluation_table import (
            SCORES,
            SELECTIVE,
            closing,
            opening,
            rows,
            selective_rows,
        )
        from fastspan.benchmarks.questions.evaluation_set import open_data
        from fastspan.benchmarks.reporting.files import write_text
        from fastspan.export.progress import progress_on

    if arguments.predictions is not None:
        ready_file(arguments.predictions)
    data = open_data(arguments.data, arguments.limit)
    with QuestionAnswerer.load(
        arguments.bundle,
        optimize_for="throughput",
        domain=arguments.domain,
        **load_arguments(arguments),
    ) as qa:
        info = qa.info()
        given = arguments.no_answer_threshold
        threshold = info.no_answer_threshold if given is None else given
        with progress_on(sys.stderr) as progress, progress.bar("answering", len(data.questions)) as step:
            outcomes = ask(
                qa,
                data.questions,
                threshold=threshold,
                max_answer_length=arguments.max_answer_length,
                step=step,
            )
    evaluation = evaluate(outcomes, threshold)
    judged = judge_confidence(outcomes, threshold)
    if arguments.predictions is not None:
        answers = json.dumps(outcomes.texts(threshold), ensure_ascii=False, indent=1)
        write_text(arguments.predictions, f"{answers}\n")
    if arguments.json:
        asked = {"name": data.name, "sha256": data.sha256, "questions": len(data.questions)}
        selective = dict(zip(("decisions", "spans"), (each.to_dict() for each in judged), strict=True))
        write_json(
            {"data": asked, "engine": info.to_dict(), **evaluation.to_dict(), "selective": selective},
            indent=2,
        )
    else:
        style = Style(sys.stdout)
        write(f"{opening(data, info, evaluation)}\n")
        write(f"{table(SCORES, rows(evaluation), style, right={1})}\n")
        write(f"{table(SELECTIVE, selective_rows(*judged), style)}\n")
        write(closing(evaluation, *judged))
    return 0

"""``fastspan eval``: how well a bundle answers a file of questions."""

from __future__ import annotations

import json
import math
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

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
from fastspan.cli.commands import UsageError
from fastspan.cli.extras import extra
from fastspan.cli.outputs import ready_file
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, table, write, write_json

if TYPE_CHECKING:
    from fastspan.benchmarks.accuracy.evaluation import Evaluation as Scores
    from fastspan.benchmarks.questions.evaluation_set import EvaluationSet
    from fastspan.bundle.beside.evaluations import Evaluation
    from fastspan.bundle.folder import Bundle
    from fastspan.results import Info

NAME = "eval"
HELP = "measure a bundle's exact match and F1 on questions with known answers"
EXAMPLES = (
    "fastspan eval models/exported/minilm-l6-squad2",
    "fastspan eval models/exported/minilm-l6-squad2 --data questions.json --variant int8 --json",
    "fastspan eval models/exported/minilm-l6-squad2 --data questions.json --predictions answers.json",
    "fastspan eval models/exported/minilm-l6-squad2 --data squad_v2:validation --variant int8 --record",
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
    parser.add_argument(
        "--record",
        action="store_true",
        help="keep the scores beside the bundle, in evaluations.json; fastspan push puts them on its card",
    )


def run(arguments: Namespace) -> int:
    """Answer every question, and show the scores."""
    from fastspan.answerer import QuestionAnswerer
    from fastspan.bundle.beside.evaluations import record_evaluation, refuse_unwritable
    from fastspan.bundle.source import open_bundle

    with extra("export", NAME):
        from fastspan.benchmarks.accuracy.evaluation import ask, evaluate, judge_confidence
        from fastspan.benchmarks.accuracy.evaluation_table import (
            SCORES,
            SELECTIVE,
            closing,
            kept_rows,
            opening,
            risk_rows,
            rows,
            selective_rows,
        )
        from fastspan.benchmarks.questions.evaluation_set import open_data
        from fastspan.benchmarks.reporting.files import write_text
        from fastspan.export.progress import progress_on

    if arguments.predictions is not None:
        ready_file(arguments.predictions)
    if arguments.record and not math.isfinite(arguments.no_answer_threshold or 0):
        raise UsageError("--record keeps scores at a finite threshold: leave --no-answer-threshold out")
    bundle = open_bundle(arguments.bundle, None) if arguments.record else None
    if bundle is not None:
        refuse_unwritable(bundle)
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
    if bundle is not None:
        record_evaluation(bundle, _record(arguments, bundle, info, data, evaluation))
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
        header, *risks = risk_rows(*judged)
        write(f"{table(header, risks, style, right={1, 2, 3, 4})}\n")
        header, *kept = kept_rows(*judged)
        write(f"{table(header, kept, style)}\n")
        write(closing(evaluation))
    return 0


def _record(
    arguments: Namespace, bundle: Bundle, info: Info, data: EvaluationSet, scores: Scores
) -> Evaluation:
    """What is kept of an evaluation."""
    import fastspan
    from fastspan.bundle.beside.evaluations import Evaluation
    from fastspan.options import AnswerOptions

    held = bundle.manifest
    variant = next(each for each in held.variants.values() if each.name == info.variant)
    graph = next(each for each in variant.graphs if each.file == info.graph)
    from_hub = arguments.data is not None and not Path(arguments.data).is_file()
    return Evaluation(
        variant=variant.name,
        graph=graph.file,
        provider=info.providers[0],
        sha256={path: held.files[path].sha256 for path in (graph.file, *graph.data)},
        data=data.name,
        hub_data=str(arguments.data) if from_hub else None,
        data_sha256=data.sha256,
        questions=len(data.questions),
        exact=scores.overall.exact.estimate,
        f1=scores.overall.f1.estimate,
        no_answer_threshold=scores.threshold,
        max_answer_length=AnswerOptions(max_answer_length=arguments.max_answer_length).span_tokens,
        created_with=fastspan.__version__,
    )

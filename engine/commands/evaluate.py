"""``fastspan eval``: how well a bundle answers a file of questions."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "eval"
HELP = "measure exact match and F1 on a SQuAD file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or a hub id")
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="SQuAD 1.1 or 2.0 JSON, JSON lines, or a hub data set such as squad_v2:validation "
        "(default: the project's own questions)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N questions only")
    parser.add_argument("--variant", default="auto", metavar="V", help="fp32, fp16, int8 or auto")
    parser.add_argument(
        "--no-answer-threshold",
        type=float,
        metavar="X",
        help="no answer where null score - best span score exceeds X (default: the bundle's threshold)",
    )
    parser.add_argument(
        "--predictions", type=Path, metavar="OUT", help='write {"question id": "answer", …} as JSON to OUT'
    )
    parser.add_argument("--provider", default="auto", metavar="P", help="cpu, cuda … or auto")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads to compute with (default: all cores)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print, and return the exit status."""
    from fastspan import QuestionAnswerer
    from fastspan.benchmarks.eval_data import open_data
    from fastspan.benchmarks.evaluation import ask, evaluate
    from fastspan.benchmarks.evaluation_text import evaluation_text
    from fastspan.benchmarks.progress_bar import progress_bar
    from fastspan.benchmarks.results import write_text

    data = open_data(arguments.data, arguments.limit)
    with QuestionAnswerer.load(
        arguments.bundle,
        variant=arguments.variant,
        provider=arguments.provider,
        threads=arguments.threads,
        optimize_for="throughput",
    ) as answerer:
        info = answerer.info()
        chosen = arguments.no_answer_threshold
        threshold = info.no_answer_threshold if chosen is None else chosen
        with progress_bar("answering", len(data.questions)) as step:
            outcomes = ask(answerer, data.questions, threshold=threshold, step=step)
    evaluation = evaluate(outcomes, threshold)
    if arguments.predictions is not None:
        text = json.dumps(outcomes.texts(threshold), indent=1, ensure_ascii=False)
        write_text(arguments.predictions, text + "\n")
    if arguments.json:
        document = {
            "data": {"name": data.name, "sha256": data.sha256, "questions": len(data.questions)},
            "engine": asdict(info),
            **evaluation.to_dict(),
        }
        print(json.dumps(document, indent=2, allow_nan=False))
    else:
        print(evaluation_text(data, info, evaluation))
    return 0

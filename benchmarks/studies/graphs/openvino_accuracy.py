"""How close to fp32 OpenVINO's int8 comes where NNCF leaves its worst layers in fp32, and at what cost.

``python -m fastspan.benchmarks.studies.graphs.openvino_accuracy`` quantizes the bundled model's graph with
NNCF: as it is, and with more and more layers left in fp32, those first without whose rounding the logits come
closest to fp32's. It judges each model on other questions, times them in turns, and writes
``openvino-accuracy.md`` into the results of this kind of CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastspan.benchmarks.intervals import share_interval
from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.peers.environments import interpreter
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet, open_data
from fastspan.benchmarks.questions.squad_files import Question
from fastspan.benchmarks.reporting.document import Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.reporting.machine import describe_machine
from fastspan.benchmarks.speed.machine.environment import results_folder
from fastspan.benchmarks.speed.models.measured import bundled_model
from fastspan.benchmarks.speed.spread import ratio_spread
from fastspan.errors import DataError, FastSpanError
from fastspan.machine.cpu import usable_cores

__all__ = ["accuracy_table", "main"]

_WORKER = "fastspan.benchmarks.studies.graphs.nncf_models"
_ORDINARY = "int8"
# Layers are ranked on one of so many questions of the half that nothing is judged on.
_SPARSE = 3


def main(arguments: Sequence[str] | None = None, *, interpreter: Callable[[str], str] = interpreter) -> int:
    """Measure and write the page.

    Args:
        arguments: The command line without the program's name; None: the process's.
        interpreter: Returns the interpreter of a peer's environment.
    """
    description = (__doc__ or "").replace("`", "")
    parser = argparse.ArgumentParser(
        prog="python -m fastspan.benchmarks.studies.graphs.openvino_accuracy", description=description
    )
    add = parser.add_argument
    add(
        "--data",
        help="questions to judge on, as fastspan eval reads them (default: half of the project's own)",
    )
    add("--limit", type=int, help="judge on the first so many of them only")
    add(
        "--ignored",
        type=int,
        nargs="+",
        default=[1, 2, 4, 8],
        metavar="N",
        help="how many of the worst layers stay fp32, one model each (default: 1 2 4 8)",
    )
    add("--rounds", type=int, default=15, help="rounds of the timing (default: %(default)s)")
    add(
        "--out",
        type=Path,
        default=results_folder(ROOT / "benchmarks" / "results", "cpu"),
        help="folder for openvino-accuracy.md (default: that of this kind of CPU in benchmarks/results)",
    )
    options = parser.parse_args(arguments)
    try:
        model = bundled_model()
        own = open_data(None)
        # No choice of layers may be judged on what it was made on.
        half = EvaluationSet(f"every other question of {own.name}", own.sha256, own.questions[1::2])
        judged = half if options.data is None else open_data(options.data, options.limit)
        task = {
            "bundle": str(model.bundle),
            "threads": usable_cores(),
            "ignored": options.ignored,
            "control": _texts(own.questions[:: 2 * _SPARSE]),
            "judged": _texts(judged.questions[: options.limit]),
            "rounds": options.rounds,
        }
        found = _measured_by(interpreter("openvino"), task)
        page = options.out / "openvino-accuracy.md"
        write_text(page, markdown(_page(model.name, judged.name, found)))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _texts(questions: Sequence[Question]) -> list[tuple[str, str]]:
    return [(each.question, each.context) for each in questions]


def _measured_by(python: str, task: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let an interpreter do the task.

    Raises:
        DataError: The task failed; what it said stands on standard error.
    """
    with tempfile.TemporaryDirectory() as name:
        given, result = Path(name) / "task.json", Path(name) / "result.json"
        given.write_text(json.dumps(task), encoding="utf-8")
        # What NNCF prints of its progress does not belong to what this command prints.
        done = subprocess.run(
            [python, "-m", _WORKER, str(given), str(result)], stdout=sys.stderr, check=False
        )
        if done.returncode or not result.is_file():
            raise DataError(f"NNCF failed with exit code {done.returncode}: its last words stand above.")
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def accuracy_table(found: Mapping[str, Any]) -> Table:
    """One row a model: its answers, its layers in fp32, and its time as a multiple of ordinary int8's."""
    rounds = {
        model["name"]: {int(number): seconds for number, seconds in model["rounds"].items()}
        for model in found["models"]
    }
    rows = []
    for model in found["models"]:
        low, high = share_interval(np.array(model["equal"]), np.array(found["judged"]))
        ratio = ratio_spread(rounds[model["name"]], rounds[_ORDINARY])
        times = f"{ratio.estimate:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
        rows.append(
            (
                model["name"],
                f"{model['equal']:.1%} [{low:.1%}, {high:.1%}]",
                f"{len(model['float'])} of {model['layers']}",
                "1" if model["name"] == _ORDINARY else times,
            )
        )
    return Table(("model", "answers equal to fp32's", "layers in fp32", "time ÷ int8's"), rows)


def _page(name: str, data: str, found: Mapping[str, Any]) -> list[Block]:
    versions = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
    return [
        Heading(1, f"OpenVINO's int8 with layers left in fp32: {name}"),
        Paragraph(
            f"Layers were ranked on {found['control']} of the project's own questions; answers are counted "
            f"on {found['judged']:,} questions, {data}, at threshold 0, with 95% intervals. Times are of "
            f"runs in turns, with 95% bootstrap intervals over rounds. {versions}. Written by "
            "`python -m fastspan.benchmarks.studies.graphs.openvino_accuracy`."
        ),
        accuracy_table(found),
        Heading(2, "Layers in fp32"),
        Table(
            ("model", "layers"),
            [
                (each["name"], ", ".join(each["float"]) or "none")
                for each in found["models"]
                if _rounded(each)
            ],
            texts=2,
        ),
        Heading(2, "Environment"),
        Table(("", ""), list(describe_machine(("fastspan", "numpy")).items()), texts=2),
    ]


def _rounded(model: Mapping[str, Any]) -> bool:
    return len(model["float"]) < int(model["layers"])


if __name__ == "__main__":
    sys.exit(main())

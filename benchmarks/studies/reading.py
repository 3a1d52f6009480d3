"""What reading many passages gives: each question's passage hidden among others like it.

``python -m fastspan.benchmarks.studies.reading --data FILE`` hides the passages by BM25. It fits a threshold
and curves for sets on one half of the questions, split by passage. It judges on the other half, and writes
``reading.md``. With ``--haystack``, Haystack's reader reads the same sets, in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastspan.answerer import QuestionAnswerer
from fastspan.benchmarks.accuracy.evaluation import ask
from fastspan.benchmarks.accuracy.evaluation_table import with_interval
from fastspan.benchmarks.accuracy.selective import selective
from fastspan.benchmarks.accuracy.squad_metric import per_question
from fastspan.benchmarks.accuracy.thresholds import fit_no_answer_threshold
from fastspan.benchmarks.calibration.calibrate_sets import confidences, fit_sets
from fastspan.benchmarks.calibration.confidence_fit import split_halves
from fastspan.benchmarks.calibration.set_outcomes import SetOutcomes, read_all
from fastspan.benchmarks.intervals import mean_interval
from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.peers.environments import interpreter
from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.benchmarks.questions.passage_sets import AskedSet, passage_sets
from fastspan.benchmarks.reporting.document import NONE, Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.bundle.beside.calibrations import Calibration
from fastspan.errors import DataError, FastSpanError
from fastspan.machine.cpu import usable_cores

__all__ = ["Decided", "main"]

TheirReading = Callable[[str, Sequence[AskedSet]], list[dict[str, Any]]]
"""Given a checkpoint and sets, returns what ``haystack_reading`` writes of each."""

_COLUMNS = ("system", "right passage", "EM", "F1", "F1, answerable", "right, unanswerable", "ECE", "AUROC")


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What a system decided over the held-out sets.

    Attributes:
        name: For people.
        texts: Its answers, ``""`` for none.
        confidence: How sure it was of each decision; None where it does not say. *Shape:* ``(sets,)``.
        right_passage: Whether its best span lies in the question's own passage. *Shape:* ``(sets,)``. None
            where it was given that passage alone.
    """

    name: str
    texts: Sequence[str]
    confidence: NDArray[np.float64] | None
    right_passage: NDArray[np.bool_] | None

    def row(self, sets: Sequence[AskedSet]) -> list[str]:
        """Return its row of the table; shares and scores in percent, with 95% bootstrap intervals."""
        questions = [each.question for each in sets]
        given = {question.id: text for question, text in zip(questions, self.texts, strict=True)}
        exact, f1 = per_question(questions, given)
        empty = np.array([question.is_impossible for question in questions])
        sure: list[str] = [NONE, NONE]
        if self.confidence is not None:
            judged = selective(self.confidence, exact)
            sure = [
                NONE if each is None else with_interval(each, digits=3) for each in (judged.ece, judged.auroc)
            ]
        return [
            self.name,
            NONE if self.right_passage is None else _percent(self.right_passage[~empty]),
            _percent(exact),
            _percent(f1),
            _percent(f1[~empty]),
            _percent(f1[empty]),
            *sure,
        ]


def main(arguments: Sequence[str] | None = None, *, haystack: TheirReading | None = None) -> int:
    """Measure and write the page.

    Args:
        arguments: The command line without the program's name; None: the process's.
        haystack: Lets Haystack read sets; None: in an environment of its own.
    """
    description = (__doc__ or "").replace("`", "")
    parser = argparse.ArgumentParser(
        prog="python -m fastspan.benchmarks.studies.reading", description=description
    )
    add = parser.add_argument
    add("--bundle", default=str(ROOT / "models" / "exported" / "minilm-l6-squad2"), help="a bundle's folder")
    add("--checkpoint", default=str(ROOT / "models" / "minilm-l6-squad2"), help="Haystack's: a folder")
    add("--data", help="questions, as fastspan eval reads them (default: the project's own)")
    add("--every", type=int, default=1, metavar="N", help="take every Nth question only")
    add("--passages", type=int, default=10, metavar="N", help="how many passages a set holds (default: 10)")
    add("--variant", default="auto", help="what reads: auto, fp32, fp16 or int8 (default: auto)")
    add("--haystack", action="store_true", help="let Haystack's reader read the same sets")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for reading.md")
    options = parser.parse_args(arguments)
    try:
        if options.every < 1:
            raise DataError("--every takes a whole number of at least 1.")
        page = options.out / "reading.md"
        write_text(page, markdown(_page(options, haystack or _haystack)))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _page(options: argparse.Namespace, haystack: TheirReading) -> list[Block]:
    data = open_data(options.data)
    # However few questions are asked, all passages stay candidates, and the halves are those of the whole
    # file: where the bundle's own calibration was fitted on one of them, it is judged on the other.
    sets = passage_sets(data.questions, options.passages)[:: options.every]
    halves = split_halves([question.context for question in data.questions])
    fitting, holding = (half[:: options.every] for half in halves)
    with QuestionAnswerer.load(options.bundle, variant=options.variant, optimize_for="throughput") as qa:
        info = qa.info()
        calibration = qa.stages.loaded.bundle.manifest.calibration()
        outcomes = read_all(qa, sets, lambda: None)
        alone = ask(qa, [each.question for each in sets], step=lambda: None)
    fit_on, held = outcomes.subset(fitting), outcomes.subset(holding)
    fitted = fit_sets(data, fit_on, len(held.sets))
    own = alone.subset(holding)
    decided = [
        Decided(
            name="FastSpan, the own passage alone",
            texts=[each.answer.text if each.answer else "" for each in own.predictions],
            confidence=_given(each.confidence for each in own.predictions),
            right_passage=None,
        ),
        _ours("FastSpan, calibrated for one passage", held, replace(calibration, sets=None), retriever=False),
        _ours("FastSpan, calibrated for sets", held, Calibration(sets=fitted), retriever=False),
        _ours("the same with BM25's scores", held, Calibration(sets=fitted), retriever=True),
    ]
    if options.haystack:
        found = haystack(options.checkpoint, sets)
        decided += _theirs(found, sets, fitting, holding)
    return [
        Heading(1, f"Reading {options.passages} passages: {info.name}, {info.variant}"),
        Paragraph(
            f"{data.name}: {len(sets):,} questions, each with its passage among {options.passages} of the "
            f"file's {len({each.context for each in data.questions}):,} by BM25. Fitted on "
            f"{len(fit_on.sets):,} of them, split by passage; the table is of the other {len(held.sets):,}. "
            f"Percent, and 95% bootstrap intervals over questions. {_command(options)}"
        ),
        Table(_COLUMNS, [each.row(held.sets) for each in decided]),
        *_remarks(options, outcomes, fitted.threshold),
    ]


def _remarks(options: argparse.Namespace, outcomes: SetOutcomes, threshold: float) -> list[Block]:
    first = np.mean([each.own == 0 for each in outcomes.sets])
    remarks: list[Block] = [
        Paragraph(
            f"BM25 itself puts the own passage first for {first:.1%} of the questions. The threshold for "
            f"sets is {threshold:.4f}. The right passage is counted over answerable questions."
        )
    ]
    if options.haystack:
        remarks.append(
            Paragraph(
                "Haystack reads the checkpoint in fp32 at its own defaults (20 answers, no answer as Π(1 − "
                "score)); in the last row, it answers where its best score is above a threshold that was "
                "fitted for F1 on the same half as FastSpan's. Its score is taken for its confidence."
            )
        )
    return remarks


def _ours(name: str, held: SetOutcomes, calibration: Calibration, *, retriever: bool) -> Decided:
    sets = calibration.sets
    threshold = calibration.no_answer.threshold if sets is None else sets.threshold
    return Decided(
        name=name,
        texts=[*held.outcomes.texts(threshold).values()],
        confidence=confidences(held, calibration, retriever=retriever),
        right_passage=held.right_passage,
    )


def _theirs(
    found: Sequence[Mapping[str, Any]],
    sets: Sequence[AskedSet],
    fitting: NDArray[np.bool_],
    holding: NDArray[np.bool_],
) -> list[Decided]:
    texts = [each["best"]["text"] if each["best"] else "" for each in found]
    scores = np.array([each["best"]["score"] if each["best"] else 0.0 for each in found])
    questions = [each.question for each in sets]
    exact, f1 = per_question(questions, {q.id: text for q, text in zip(questions, texts, strict=True)})
    empty = np.array([question.is_impossible for question in questions])
    threshold = -fit_no_answer_threshold(
        -scores[fitting], exact[fitting], f1[fitting], empty[fitting]
    ).threshold
    answered = np.array([each["answered"] for each in found])
    no_answer = np.array([each["no_answer"] for each in found])
    right = np.array(
        [
            each["best"] is not None and each["best"]["passage"] == s.own
            for each, s in zip(found, sets, strict=True)
        ]
    )

    def held(name: str, given: NDArray[np.bool_], confidence: NDArray[np.float64]) -> Decided:
        chosen = np.flatnonzero(holding).tolist()
        return Decided(
            name=name,
            texts=[texts[n] if given[n] else "" for n in chosen],
            confidence=confidence[holding],
            right_passage=right[holding],
        )

    above = scores >= threshold
    return [
        held("Haystack, as it comes", answered, np.where(answered, scores, no_answer)),
        held("Haystack, threshold fitted", above, np.where(above, scores, 1 - scores)),
    ]


def _haystack(checkpoint: str, sets: Sequence[AskedSet]) -> list[dict[str, Any]]:
    """Let Haystack read the sets.

    Raises:
        MissingDependency: Its environment cannot be made.
        DataError: It failed.
    """
    python = interpreter("haystack")
    with tempfile.TemporaryDirectory() as folder:
        given, answers = Path(folder, "sets.jsonl"), Path(folder, "answers.jsonl")
        lines = (json.dumps({"question": each.question.question, "passages": each.passages}) for each in sets)
        given.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        module = "fastspan.benchmarks.peers.systems.haystack_reading"
        command = [python, "-m", module, checkpoint, str(given), str(answers), str(usable_cores())]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DataError(f"Haystack failed: {done.stderr.strip()[-300:]}")
        return [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]


def _given(confidence: Any) -> NDArray[np.float64] | None:
    found = list(confidence)
    return None if any(each is None for each in found) else np.array(found, dtype=np.float64)


def _percent(values: NDArray[Any]) -> str:
    return with_interval(mean_interval(100.0 * values), digits=1) if values.size else NONE


def _command(options: argparse.Namespace) -> str:
    words = ["python -m fastspan.benchmarks.studies.reading", "--data FILE" if options.data else ""]
    words += [f"--every {options.every}" if options.every > 1 else ""]
    words += [f"--passages {options.passages}" if options.passages != 10 else ""]
    words += [f"--variant {options.variant}" if options.variant != "auto" else ""]
    words += ["--haystack" if options.haystack else ""]
    return f"Written by `{' '.join(word for word in words if word)}`."


if __name__ == "__main__":
    sys.exit(main())

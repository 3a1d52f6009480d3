"""Questions over several passages of which the tiny model answers some rightly."""

from __future__ import annotations

import json
from pathlib import Path

from fastspan import QuestionAnswerer
from fastspan.benchmarks.calibration.set_outcomes import read_all
from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.benchmarks.questions.passage_sets import passage_sets
from support.questions.tiny_questions import each_question, squad_document

__all__ = ["learnable_sets"]


def learnable_sets(bundle: Path, folder: Path) -> Path:
    """Write a file of questions; where its own passage was best, every second gets what was found there."""
    document = squad_document(passages=12)
    path = folder / "learnable.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    sets = passage_sets(open_data(path).questions, 4)
    with QuestionAnswerer.load(bundle, variant="fp32", threads=1) as qa:
        readings = read_all(qa, sets, lambda: None).readings
    for number, (asked, reading) in enumerate(zip(sets, readings, strict=True)):
        best = reading.answers[0]
        entry = each_question(document)[number]
        if best.passage == asked.own and number % 2:
            entry["answers"] = [{"text": best.text, "answer_start": best.start}]
            entry["is_impossible"] = False
    path.write_text(json.dumps(document), encoding="utf-8")
    return path

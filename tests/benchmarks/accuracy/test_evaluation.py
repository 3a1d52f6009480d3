from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastspan import QuestionAnswerer
from fastspan.benchmarks.accuracy.evaluation import Outcomes, ask, evaluate, judge_confidence
from fastspan.benchmarks.accuracy.squad_metric import score
from fastspan.benchmarks.calibration.confidence_fit import expected_calibration_error
from fastspan.benchmarks.questions.evaluation_set import OWN_SET, open_data
from fastspan.benchmarks.questions.squad_files import load_questions
from fastspan.cli.main import main
from fastspan.errors import DataError
from support.questions.tiny_questions import each_question, prediction, question, squad_document, write_squad

# Right, half right, wrong; then unanswerable and rightly left, wrongly answered; and one without a span.
QUESTIONS = (
    question("a", "red"),
    question("b", "red green"),
    question("c", "blue"),
    question("d"),
    question("e"),
    question("f"),
)
OUTCOMES = Outcomes(
    QUESTIONS,
    (
        prediction("red", -3.0),
        prediction("red blue", -2.0),
        prediction("green", 1.0),
        prediction("red", 4.0),
        prediction("red", -1.0),
        prediction("", math.inf),
    ),
    seconds=2.0,
)


def test_scores_by_group_in_percent():
    found = evaluate(OUTCOMES, 0.0)
    assert found.overall.total == 6
    assert found.overall.exact.estimate == pytest.approx(100 * 3 / 6)
    assert found.overall.f1.estimate == pytest.approx(100 * 3.5 / 6)
    assert found.answerable.total == 3
    assert found.answerable.f1.estimate == pytest.approx(100 * 1.5 / 3)
    assert found.unanswerable.total == 3
    assert found.unanswerable.exact.estimate == pytest.approx(100 * 2 / 3)
    assert found.overall.exact.low < found.overall.exact.estimate < found.overall.exact.high
    assert found.questions_per_second == pytest.approx(3.0)


def test_the_official_keys_are_the_official_scores():
    found = evaluate(OUTCOMES, 0.0)
    official = score(QUESTIONS, {"a": "red", "b": "red blue", "c": "", "d": "", "e": "red", "f": ""})
    assert found.official == official
    assert official.items() <= found.to_dict().items()


def test_the_threshold_decides_which_questions_stay_unanswered():
    assert OUTCOMES.texts(-2.0) == {"a": "red", "b": "red blue", "c": "", "d": "", "e": "", "f": ""}
    assert OUTCOMES.texts(math.inf)["d"] == "red"
    assert OUTCOMES.texts(math.inf)["f"] == ""
    assert set(OUTCOMES.texts(-math.inf).values()) == {""}


def test_the_best_threshold_is_one_that_reaches_what_it_claims():
    best = evaluate(OUTCOMES, 0.0).best
    assert best.f1 == pytest.approx(evaluate(OUTCOMES, best.f1_threshold).official["f1"])
    assert best.f1 > evaluate(OUTCOMES, 0.0).official["f1"]


def test_data_without_unanswerable_questions_has_no_such_group():
    found = evaluate(OUTCOMES.subset(np.array([True, True, False, False, False, False])), 0.0)
    assert found.unanswerable is None
    assert found.seconds == pytest.approx(2.0 / 3)
    assert not any(key.startswith("NoAns") for key in found.to_dict()["intervals_95"])


def test_the_projects_own_questions_are_the_default():
    data = open_data(None)
    assert data.name == "fastspan-eval"
    assert list(data.questions) == load_questions(OWN_SET)
    assert 0 < data.unanswerable < len(data.questions)


def test_a_limited_set_says_so(tmp_path: Path):
    path = write_squad(tmp_path, "my set.json")
    whole, part = open_data(path), open_data(path, 7)
    assert (whole.name, part.name) == ("my-set", "my-set-first-7")
    assert part.questions == whole.questions[:7]
    assert part.sha256 == whole.sha256


def test_what_is_asked_is_what_the_engine_answers(tiny_bundle: Path, tmp_path: Path):
    data = open_data(write_squad(tmp_path))
    steps = []
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", threads=1) as qa:
        outcomes = ask(qa, data.questions, step=lambda: steps.append(1))
        alone = [qa.answer(q.question, q.context) for q in data.questions[:5]]
    assert len(steps) == len(data.questions) == 40
    assert [p.answer for p in outcomes.predictions[:5]] == [p.answer for p in alone]
    texts = outcomes.texts(0.0)
    for asked, given in zip(data.questions, outcomes.predictions, strict=True):
        assert texts[asked.id] == (given.answer.text if given.answer else "")


def test_a_question_that_cannot_be_asked_is_named(tiny_bundle: Path, tmp_path: Path):
    document = squad_document()
    each_question(document)[33]["question"] = "  "
    path = tmp_path / "blank.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    data = open_data(path)
    with (
        QuestionAnswerer.load(tiny_bundle, variant="fp32", threads=1) as qa,
        pytest.raises(DataError, match="question 'p6-q3' cannot be asked"),
    ):
        ask(qa, data.questions, step=lambda: None)


def test_a_question_longer_than_its_window_is_cut(tiny_bundle: Path, tmp_path: Path):
    document = squad_document()
    each_question(document)[0]["question"] = "who " * 600
    path = tmp_path / "long.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", threads=1) as qa:
        outcomes = ask(qa, open_data(path).questions, step=lambda: None)
    assert len(outcomes.predictions) == 40


def run_eval(bundle: Path, *options: str) -> int:
    return main(["eval", str(bundle), "--variant", "fp32", "--threads", "1", *options])


def test_the_command_prints_json_and_writes_predictions(tiny_bundle: Path, tmp_path: Path, capsys):
    path, out = write_squad(tmp_path), tmp_path / "answers.json"
    assert run_eval(tiny_bundle, "--data", str(path), "--json", "--predictions", str(out)) == 0
    document = json.loads(capsys.readouterr().out)
    answers = json.loads(out.read_text(encoding="utf-8"))
    official = score(load_questions(path), answers)
    assert official.items() <= document.items()
    assert document["no_answer_threshold"] == 0.0
    assert document["engine"]["variant"] == "fp32"
    assert set(document["selective"]) == {"decisions", "spans"}
    assert document["selective"]["decisions"]["ece"] is None  # not calibrated
    assert 0 <= document["selective"]["spans"]["aurc"] <= 1
    assert set(document["intervals_95"]) == {
        "exact", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1",
    }  # fmt: skip


@pytest.mark.parametrize(("threshold", "empty"), [("-inf", 12), ("inf", 0)])
def test_the_command_takes_a_threshold(tiny_bundle: Path, tmp_path: Path, capsys, threshold, empty):
    path, out = write_squad(tmp_path), tmp_path / "answers.json"
    options = ("--data", str(path), "--limit", "12", f"--no-answer-threshold={threshold}", "--json")
    assert run_eval(tiny_bundle, *options, "--predictions", str(out)) == 0
    answers = json.loads(out.read_text(encoding="utf-8"))
    assert len(answers) == 12
    assert list(answers.values()).count("") == empty
    assert json.loads(capsys.readouterr().out)["no_answer_threshold"] == threshold


def test_the_command_prints_a_table(tiny_bundle: Path, tmp_path: Path, capsys):
    assert run_eval(tiny_bundle, "--data", str(write_squad(tmp_path))) == 0
    text = capsys.readouterr().out
    assert "tiny: 40 questions, 16 without an answer" in text
    for row, total in (("all", 40), ("with an answer", 24), ("without an answer", 16)):
        assert any(line.startswith(row) and f" {total} " in line for line in text.splitlines())
    assert "questions/s" in text
    assert re.search(r"^decisions +[01]\.\d{3} \[[01]\.\d{3}, [01]\.\d{3}\]", text, re.MULTILINE)


def test_wrong_data_is_one_sentence_and_exit_code_1(tiny_bundle: Path, tmp_path: Path, capsys):
    document = squad_document()
    each_question(document)[17]["is_impossible"] = "no"
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert run_eval(tiny_bundle, "--data", str(path)) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "'p3-q2'" in told[0]
    assert "is_impossible" in told[0]


def test_json_lines_are_data_too(tiny_bundle: Path, tmp_path: Path, capsys):
    path = tmp_path / "faq.jsonl"
    record = {"id": "1", "question": "who built the tower", "context": "the norse built the tower"}
    path.write_text(json.dumps({**record, "answers": ["the norse"]}) + "\n", encoding="utf-8")
    assert run_eval(tiny_bundle, "--data", str(path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["HasAns_total"] == 1


def test_the_confidence_is_judged_by_its_own_decisions():
    sure = tuple(
        replace(each, confidence=0.9 if n % 2 else 0.4) for n, each in enumerate(OUTCOMES.predictions)
    )
    outcomes = Outcomes(OUTCOMES.questions, sure, 1.0)
    decisions, spans = judge_confidence(outcomes, 0.0)
    right = np.where(outcomes.margins > 0, outcomes.unanswerable, outcomes.span_scores[0])
    given = np.array([each.confidence for each in sure])
    assert decisions.ece is not None
    assert decisions.ece.estimate == pytest.approx(expected_calibration_error(given, right))
    assert spans.risks[1.0] == pytest.approx(1 - outcomes.span_scores[0].mean())
    # At another threshold other decisions are made, and those have no confidence.
    assert judge_confidence(outcomes, -1e9)[0].ece is None
    assert judge_confidence(OUTCOMES, math.inf)[0].aurc.estimate >= 0

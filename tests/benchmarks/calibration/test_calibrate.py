from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastspan import QuestionAnswerer
from fastspan.benchmarks.accuracy.evaluation import Outcomes, evaluate
from fastspan.benchmarks.calibration.calibrate import calibrate, store
from fastspan.benchmarks.calibration.confidence_fit import expected_calibration_error, split_halves
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet, open_data
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import NoAnswer
from fastspan.cli.main import main
from fastspan.decoding.confidence import decision_confidence
from fastspan.errors import DataError
from fastspan.export.checkpoint.calibration import read_calibration
from fastspan.export.checkpoint.folder import CheckpointFolder
from support.tiny_questions import answered, each_question, question, squad_document, write_squad


def simulated(count: int = 3000, seed: int = 5) -> tuple[EvaluationSet, Outcomes]:
    """Three questions a passage; what has an answer has lower margins, and the best threshold is not 0."""
    rng = np.random.default_rng(seed)
    possible = rng.random(count) < 0.5
    margins = np.where(possible, rng.normal(-7.0, 3.0, count), rng.normal(-1.0, 3.0, count))
    right = rng.random(count) < 0.8
    questions = tuple(
        question(f"q{i}", *(["red"] if possible[i] else []), context=f"Passage {i // 3}: red green.")
        for i in range(count)
    )
    given = answered(questions, lambda i, _: ("red" if right[i] else "green", float(margins[i])))
    return EvaluationSet("simulated", "0" * 64, questions), Outcomes(questions, given, 1.0)


def halves(outcomes: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    return split_halves([q.context for q in outcomes.questions])


def test_the_fitted_threshold_helps_the_other_half():
    data, outcomes = simulated()
    found = calibrate(data, outcomes, "fp32")
    assert found.threshold < -1.0
    before, after = found.before.evaluation, found.after.evaluation
    assert after.overall.f1.estimate > before.overall.f1.estimate + 5
    assert found.after.ece < 0.05 < found.before.ece


def test_what_is_reported_is_the_held_out_half():
    data, outcomes = simulated()
    found = calibrate(data, outcomes, "fp32")
    fitting, holding = halves(outcomes)
    assert found.fitted_on.questions == fitting.sum()
    assert found.fitted_on.reported_on_questions == holding.sum() == found.before.evaluation.overall.total
    held = outcomes.subset(holding)
    assert found.before.evaluation == evaluate(held, 0.0)
    assert found.after.evaluation == evaluate(held, found.threshold)
    exact, given = held.span_scores[0], held.margins <= found.threshold
    assert found.after.precision == pytest.approx(exact[given].mean())
    assert found.after.coverage == pytest.approx(given.mean())
    assert sum(group.count for group in found.bins) == holding.sum()


def test_the_held_out_half_has_no_say_in_the_fit():
    data, outcomes = simulated()
    found = calibrate(data, outcomes, "fp32")
    _, holding = halves(outcomes)
    other = tuple(
        replace(p, null_score=p.null_score + 2.5) if held else p
        for p, held in zip(outcomes.predictions, holding, strict=True)
    )
    again = calibrate(data, Outcomes(outcomes.questions, other, 1.0), "fp32")
    assert (again.threshold, again.confidence) == (found.threshold, found.confidence)
    assert again.after.evaluation.overall != found.after.evaluation.overall


def test_what_it_writes_can_be_put_beside_a_checkpoint(tmp_path):
    data, outcomes = simulated()
    found = calibrate(data, outcomes, "fp32")
    (tmp_path / "calibration.json").write_text(json.dumps(found.to_dict()))
    read = read_calibration(CheckpointFolder.open(tmp_path))
    assert read is not None
    assert read.no_answer == NoAnswer(threshold=found.threshold, fitted_on=found.fitted_on)
    assert read.confidence is not None
    assert read.confidence.ece == found.after.ece


def test_a_wished_precision_is_reached_where_it_is_fitted_and_nearly_elsewhere():
    data, outcomes = simulated()
    found = calibrate(data, outcomes, "fp32", target_precision=0.7)
    fitting, _ = halves(outcomes)
    fitted = outcomes.subset(fitting)
    given = fitted.margins <= found.threshold
    assert fitted.span_scores[0][given].mean() >= 0.7
    assert found.after.precision == pytest.approx(0.7, abs=0.05)
    assert calibrate(data, outcomes, "fp32", target_precision=0.76).threshold < found.threshold


def test_a_precision_beyond_reach_is_refused():
    data, outcomes = simulated()
    with pytest.raises(DataError, match="No threshold reaches a precision"):
        calibrate(data, outcomes, "fp32", target_precision=0.95)


def test_questions_of_one_kind_teach_nothing():
    data, outcomes = simulated()
    possible = outcomes.subset(~outcomes.unanswerable)
    with pytest.raises(DataError, match="unanswerable"):
        calibrate(data, possible, "fp32")


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_a_calibrated_bundle_says_what_the_fit_says(bundle: Path, tmp_path: Path):
    data, outcomes = simulated(600)
    found = calibrate(data, outcomes, "fp32")
    store(Bundle.open(bundle), found)
    manifest = Bundle.open(bundle).manifest
    assert manifest.no_answer.threshold == found.threshold
    assert manifest.no_answer.fitted_on == manifest.confidence.fitted_on == found.fitted_on
    assert manifest.confidence.ece == found.after.ece
    Bundle.open(bundle).verify_all()
    questions = open_data(write_squad(tmp_path)).questions
    with QuestionAnswerer.load(bundle, variant="fp32", threads=1) as qa:
        assert qa.info().calibrated
        assert qa.info().no_answer_threshold == found.threshold
        pairs = [(q.question, q.context) for q in questions]
        margins = np.array([p.margin for p in qa.answer_many(pairs)])
        # The middle one as the threshold, so that both curves are asked.
        for threshold in (found.threshold, float(np.median(margins))):
            given = list(qa.answer_many(pairs, no_answer_threshold=threshold))
            expected = found.confidence.confidence(margins, margins > threshold)
            assert [p.confidence for p in given] == pytest.approx(expected.tolist(), abs=1e-12)
            assert [p.answer is None for p in given] == (margins > threshold).tolist()


def test_before_calibration_the_engines_own_confidence_is_measured():
    data, outcomes = simulated(600)
    found = calibrate(data, outcomes, "fp32")
    held = outcomes.subset(halves(outcomes)[1])
    confidence = [decision_confidence(m, 0.0, None, answered=m <= 0) for m in held.margins.tolist()]
    right = np.where(held.margins > 0, held.unanswerable, held.span_scores[0])
    assert found.before.ece == pytest.approx(expected_calibration_error(confidence, right))


def learnable(bundle: Path, folder: Path) -> Path:
    """Questions of which the tiny model answers some rightly: every second reference is what it found."""
    document = squad_document(passages=12)
    path = folder / "learnable.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with QuestionAnswerer.load(bundle, variant="fp32", threads=1) as qa:
        for number, asked in enumerate(open_data(path).questions):
            entry = each_question(document)[number]
            best = qa.answer(asked.question, asked.context).answers[0]
            if entry["answers"] and number % 2:
                entry["answers"] = [{"text": best.text, "answer_start": best.start}]
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_the_command_updates_the_manifest_and_draws(bundle: Path, tmp_path: Path, capsys):
    pytest.importorskip("matplotlib")
    path, out = learnable(bundle, tmp_path), tmp_path / "figures"
    command = ["calibrate", str(bundle), "--data", str(path), "--threads", "1"]
    assert main([*command, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "before" in text
    assert "no-answer threshold" in text
    assert {p.name for p in out.iterdir()} == {
        "calibration.json",
        "reliability.svg",
        "precision-coverage.svg",
    }
    figures = json.loads((out / "calibration.json").read_text(encoding="utf-8"))
    manifest = Bundle.open(bundle).manifest
    assert manifest.no_answer.threshold == figures["no_answer_threshold"]
    assert manifest.no_answer.fitted_on.name == "learnable"
    assert figures["held_out"]["before"]["no_answer_threshold"] == 0.0
    assert figures["held_out"]["after"]["ece"] == manifest.confidence.ece
    assert figures["variant"] == "fp32"
    # Fitting again begins from the scores, not from what the manifest says by now.
    assert main([*command, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["confidence"] == figures["confidence"]
    assert again["held_out"]["before"]["f1"] == figures["held_out"]["before"]["f1"]


def test_a_failed_calibration_leaves_the_bundle_as_it_was(bundle: Path, tmp_path: Path, capsys):
    before = (bundle / "fastspan.json").read_bytes()
    path = write_squad(tmp_path, passages=12)
    assert main(["calibrate", str(bundle), "--data", str(path), "--target-precision", "0.99"]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()[-1]) > 0
    assert (bundle / "fastspan.json").read_bytes() == before


@pytest.mark.parametrize("precision", ["0", "1.5", "nan", "much"])
def test_a_precision_is_a_share(bundle: Path, capsys, precision):
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", str(bundle), "--data", "x.json", "--target-precision", precision])
    assert stopped.value.code == 2

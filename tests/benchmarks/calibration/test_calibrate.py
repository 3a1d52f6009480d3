from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastspan import QuestionAnswerer
from fastspan.benchmarks.accuracy.evaluation import Outcomes, evaluate
from fastspan.benchmarks.calibration.calibrate import Present, calibrate
from fastspan.benchmarks.calibration.confidence_fit import (
    ConfidenceCurve,
    ConfidenceFit,
    expected_calibration_error,
    split_halves,
)
from fastspan.benchmarks.calibration.storing import store
from fastspan.benchmarks.calibration.table import notes
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet, open_data
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import NoAnswer
from fastspan.cli.main import main
from fastspan.errors import DataError
from fastspan.export.checkpoint.calibration import read_calibration
from fastspan.export.checkpoint.folder import CheckpointFolder
from support.questions.tiny_questions import answered, each_question, question, squad_document, write_squad


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


def test_before_a_calibration_the_distance_from_the_threshold_is_the_confidence():
    data, outcomes = simulated(600)
    found = calibrate(data, outcomes, "fp32")
    held = outcomes.subset(halves(outcomes)[1])
    confidence = 1 / (1 + np.exp(-np.abs(held.margins)))
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
    assert figures["stored"] == {"no_answer_threshold": True, "confidence": True}
    from_file = read_calibration(CheckpointFolder.open(out))
    assert (from_file.no_answer, from_file.confidence) == (manifest.no_answer, manifest.confidence)
    # Fitting again begins from the scores, and is compared with what the manifest says by now.
    assert main([*command, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["confidence"] == figures["confidence"]
    assert again["held_out"]["before"]["f1"] == figures["held_out"]["after"]["f1"]
    assert again["held_out"]["before"]["ece"] == pytest.approx(figures["held_out"]["after"]["ece"])


def separable(count: int = 600) -> tuple[EvaluationSet, Outcomes]:
    """Every decision at threshold 0 is right, and far from it: the scores alone are surer than any fit."""
    questions = tuple(
        question(f"q{i}", *(["red"] if i % 2 else []), context=f"Passage {i // 3}: red green.")
        for i in range(count)
    )
    given = answered(questions, lambda i, _: ("red", -20.0 - i % 7 if i % 2 else 20.0 + i % 5))
    return EvaluationSet("separable", "0" * 64, questions), Outcomes(questions, given, 1.0)


def test_curves_that_are_worse_than_the_scores_are_not_stored(bundle: Path):
    data, outcomes = separable()
    found = calibrate(data, outcomes, "fp32")
    assert found.before.ece < 1e-6 < found.after.ece
    assert (found.keep_threshold, found.keep_confidence) == (True, False)
    store(Bundle.open(bundle), found)
    manifest = Bundle.open(bundle).manifest
    assert manifest.confidence is None
    assert manifest.no_answer.threshold == found.threshold
    assert "The fitted confidence is not stored" in notes(found)[0]


def test_nothing_is_stored_where_all_of_it_is_worse_than_what_the_bundle_has():
    data, outcomes = simulated()
    present = calibrate(data, outcomes, "fp32")
    # Half of the passages, and another kind of question in the fitting half: the fit misleads.
    fitting, _ = halves(outcomes)
    other = tuple(
        replace(p, null_score=p.null_score + 6.0) if fit else p
        for p, fit in zip(outcomes.predictions, fitting, strict=True)
    )
    found = calibrate(
        data,
        Outcomes(outcomes.questions, other, 1.0),
        "fp32",
        present=Present(present.threshold, present.confidence),
    )
    assert found.before.ece == pytest.approx(present.after.ece)
    assert found.after.evaluation.overall.f1.estimate < found.before.evaluation.overall.f1.estimate
    assert not found.helps
    assert "threshold and confidence are not stored" in notes(found)[0]


def test_a_fit_is_never_worse_than_before_in_what_is_kept():
    data, outcomes = simulated(400)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        curve = ConfidenceCurve(float(rng.uniform(0, 1)), float(rng.normal()))
        present = Present(float(rng.normal(-4, 3)), ConfidenceFit(curve, ConfidenceCurve(-curve.scale, 0.0)))
        found = calibrate(data, outcomes, "fp32", present=present)
        assert sum(found.tenths) == found.fitted_on.reported_on_questions
        if found.keep_confidence:
            assert found.kept_ece <= found.before.ece
        if found.keep_threshold:
            assert found.after.evaluation.overall.f1.estimate >= found.before.evaluation.overall.f1.estimate


def test_the_command_says_when_nothing_was_stored(bundle: Path, tmp_path: Path, capsys, monkeypatch):
    path, before = learnable(bundle, tmp_path), (bundle / "fastspan.json").read_bytes()
    monkeypatch.setattr("fastspan.benchmarks.calibration.calibrate._no_worse", lambda *_: False)
    command = ["calibrate", str(bundle), "--data", str(path), "--threads", "1"]
    assert main(command) == 1
    shown = capsys.readouterr()
    assert "no-answer threshold" in shown.out
    assert "Stored" not in shown.out
    assert "Nothing was stored" in shown.err
    assert (bundle / "fastspan.json").read_bytes() == before


def test_a_copy_is_calibrated_and_the_bundle_left_alone(bundle: Path, tmp_path: Path, capsys):
    path, before = learnable(bundle, tmp_path), (bundle / "fastspan.json").read_bytes()
    copy = tmp_path / "copy"
    command = ["calibrate", str(bundle), "--data", str(path), "--threads", "1", "--copy-to", str(copy)]
    assert main(command) == 0
    assert str(copy / "fastspan.json") in capsys.readouterr().out
    stored = Bundle.open(copy).manifest.confidence
    assert stored is not None
    assert stored.tenths is not None
    assert sum(stored.tenths) == stored.fitted_on.reported_on_questions
    Bundle.open(copy).verify_all()
    assert (bundle / "fastspan.json").read_bytes() == before
    assert main(command) == 1
    assert "is there already" in capsys.readouterr().err


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

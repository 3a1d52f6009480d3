"""Calibration over sets of passages, on made-up readings and through the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastspan import PassageAnswer, QuestionAnswerer, Reading
from fastspan.benchmarks.accuracy.selective import selective
from fastspan.benchmarks.calibration.calibrate_sets import (
    CalibratedSets,
    calibrate_sets,
    confidences,
    held_sets,
    store_sets,
)
from fastspan.benchmarks.calibration.confidence_fit import split_halves
from fastspan.benchmarks.calibration.set_outcomes import SetOutcomes, read_all
from fastspan.benchmarks.calibration.table import set_notes
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet, open_data
from fastspan.benchmarks.questions.passage_sets import AskedSet, passage_sets
from fastspan.bundle.beside.calibrations import Calibration
from fastspan.bundle.folder import Bundle
from fastspan.cli.main import main
from fastspan.export.checkpoint.calibration import read_calibration
from fastspan.export.checkpoint.folder import CheckpointFolder
from support.questions.learnable_sets import learnable_sets
from support.questions.tiny_questions import question

PASSAGES = 6


def simulated(count: int = 1500, seed: int = 4) -> tuple[EvaluationSet, SetOutcomes]:
    """Margins say something of what is right; how close a rival is, and who agrees, say more."""
    rng = np.random.default_rng(seed)
    sets, readings = [], []
    for i in range(count):
        possible = rng.random() < 0.6
        agreeing = int(rng.integers(0, 3))
        gap = float(rng.exponential(3.0))
        margin = float(rng.normal(-9 if possible else -6, 3))
        right = rng.random() < 1 / (1 + np.exp(2.0 - gap - agreeing + 0.1 * margin))
        asked = question(f"q{i}", *(["red"] if possible else []), context=f"Passage {i // 3}: red green.")
        passages = (asked.context, *(f"Other {n}: green." for n in range(PASSAGES - 1)))
        own = right and possible
        text = "red" if own else "green"
        best = PassageAnswer(text, 0, len(text), -margin, 0.0, 0 if own else 1, None, (0, 5))
        scores = (3.0 if own or rng.random() < 0.3 else 1.0, 2.0, *([0.0] * (PASSAGES - 2)))
        sets.append(AskedSet(asked, passages, scores, 0))
        readings.append(Reading(best, (best,), None, margin, margin + gap, agreeing, PASSAGES))
    questions = tuple(each.question for each in sets)
    return EvaluationSet("simulated", "0" * 64, questions), SetOutcomes(tuple(sets), tuple(readings), 1.0)


@pytest.fixture(scope="module")
def found() -> CalibratedSets:
    return calibrate_sets(*simulated(), "fp32", present=Calibration())


def test_the_fit_is_calibrated_where_it_was_not_fitted(found):
    assert found.helps
    assert found.after.ece < 0.06 < found.before.ece
    assert found.fitted.ece == found.after.ece
    assert found.fitted.passages == PASSAGES
    weights = found.fitted.curves.answered
    assert weights.margin > 0 > weights.rival
    assert weights.agreement > 0
    assert weights.retriever == 0 < found.fitted.with_retriever.answered.retriever


def test_what_is_reported_is_the_held_out_half(found):
    _, outcomes = simulated()
    fitting, holding = split_halves([each.question.context for each in outcomes.sets])
    assert found.fitted.fitted_on.questions == fitting.sum()
    assert found.fitted.fitted_on.reported_on_questions == holding.sum()
    assert found.after == held_sets(outcomes.subset(holding), Calibration(sets=found.fitted))
    data, _ = simulated()
    other = tuple(
        replace(reading, margin=reading.margin + 2.0, agreeing=0) if held else reading
        for reading, held in zip(outcomes.readings, holding, strict=True)
    )
    again = calibrate_sets(data, SetOutcomes(outcomes.sets, other, 1.0), "fp32", present=Calibration())
    assert again.fitted.curves == found.fitted.curves
    assert again.fitted.threshold == found.fitted.threshold


def test_a_margin_alone_is_less_than_what_sets_show(found):
    """What is not in a margin, how close a rival is and who agrees, tells right from wrong."""
    _, outcomes = simulated()
    exact, margins = outcomes.outcomes.span_scores[0], outcomes.outcomes.margins
    best = replace(found.fitted, threshold=float("inf"))
    seen = confidences(outcomes, Calibration(sets=best), retriever=False)
    margin_alone = selective(-margins, exact, probabilities=False).auroc
    assert selective(seen, exact).auroc.estimate > margin_alone.estimate + 0.02


def test_a_present_calibration_that_is_better_stays():
    data, outcomes = simulated()
    present = calibrate_sets(data, outcomes, "fp32", present=Calibration()).fitted
    fitting, _ = split_halves([each.question.context for each in outcomes.sets])
    misled = tuple(
        replace(reading, margin=reading.margin + 6.0) if fit else reading
        for reading, fit in zip(outcomes.readings, fitting, strict=True)
    )
    again = calibrate_sets(
        data, SetOutcomes(outcomes.sets, misled, 1.0), "fp32", present=Calibration(sets=present)
    )
    assert not again.helps
    assert "It is not stored" in " ".join(set_notes(again))


def test_a_promised_precision_is_kept_with_the_threshold():
    data, outcomes = simulated()
    found = calibrate_sets(
        data, outcomes, "fp32", present=Calibration(), target_precision=0.6, confidence_level=0.9
    )
    promise = found.fitted.guarantee
    assert promise is not None
    assert promise.right / promise.answers > 0.6
    _, holding = split_halves([each.question.context for each in outcomes.sets])
    held = outcomes.subset(holding).outcomes
    assert promise.answers == (held.margins <= found.fitted.threshold).sum()
    assert "With a certainty of 0.9, at least 0.6 of the answers match" in " ".join(set_notes(found))


def test_what_it_writes_can_be_put_beside_a_checkpoint(found, tmp_path):
    threshold = {"no_answer_threshold": -1.0, "fitted_on": {"name": "x", "questions": 5, "sha256": "0" * 64}}
    document = {**threshold, "sets": json.loads(json.dumps(found.to_dict()))["sets"]}
    (tmp_path / "calibration.json").write_text(json.dumps(document))
    read = read_calibration(CheckpointFolder.open(tmp_path))
    assert read is not None
    assert read.sets == found.fitted


# --- Through an answerer. ---


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_a_calibrated_bundle_says_what_the_fit_says(bundle: Path, found: CalibratedSets, tmp_path: Path):
    store_sets(Bundle.open(bundle), found)
    sets = passage_sets(open_data(learnable_sets(bundle, tmp_path)).questions, 4)
    with QuestionAnswerer.load(bundle, variant="fp32", threads=1) as qa:
        assert qa.info().calibrated_for_sets
        outcomes = read_all(qa, sets, lambda: None)
    expected = confidences(outcomes, Calibration(sets=found.fitted), retriever=True)
    assert [reading.confidence for reading in outcomes.readings] == pytest.approx(expected.tolist())


def test_the_command_stores_and_draws(bundle: Path, tmp_path: Path, capsys):
    pytest.importorskip("matplotlib")
    path, out = learnable_sets(bundle, tmp_path), tmp_path / "figures"
    command = ["calibrate", str(bundle), "--data", str(path), "--threads", "1", "--sets", "--passages", "4"]
    assert main([*command, "--domain", "tests", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "sets of 4 passages" in text
    assert "as tests, for all its variants" in text
    assert {p.name for p in out.iterdir()} == {
        "set-calibration.json",
        "reliability.svg",
        "precision-coverage.svg",
    }
    manifest = Bundle.open(bundle).manifest
    assert manifest.sets is None
    stored = manifest.calibration("tests").sets
    assert stored is not None
    assert stored.passages == 4
    with QuestionAnswerer.load(bundle, variant="fp32", threads=1) as qa:
        assert qa.read("who built the tower", ["the norse", "rollo"]).confidence is None
        assert qa.read("who built the tower", ["the norse", "rollo"], domain="tests").confidence is not None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--passages", "4"], "--passages goes with --sets"),
        (["--confidence-level", "0.9"], "--confidence-level goes with --target-precision"),
        (["--target-precision", "1", "--confidence-level", "0.9"], "ask for less"),
        (["--target-precision", "0.9", "--confidence-level", "1"], "not above 0 and below 1"),
        (["--domain", "a b"], "is not a name"),
    ],
)
def test_options_that_do_not_go_together(bundle: Path, capsys, options, told):
    try:
        code = main(["calibrate", str(bundle), "--data", "x.json", *options])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert told in capsys.readouterr().err

"""Risk and coverage, against definitions written out, and against what is known by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastspan.benchmarks.accuracy.selective import risk_coverage, selective
from fastspan.benchmarks.calibration.confidence_fit import expected_calibration_error
from fastspan.errors import DataError


def drawn(count: int = 400, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = rng.random(count)
    return confidence, (rng.random(count) < confidence).astype(float)


def test_the_curve_and_its_area_are_those_of_the_definition():
    confidence, correct = drawn()
    order = np.argsort(-confidence)
    kept = np.arange(1, 401)
    risk = np.cumsum(1 - correct[order]) / kept
    curve = risk_coverage(confidence, correct)
    assert curve.coverage == pytest.approx(kept / 400)
    assert curve.risk == pytest.approx(risk)
    found = selective(confidence, correct)
    assert found.aurc.estimate == pytest.approx(risk.mean())
    assert found.risks[0.5] == pytest.approx(risk[199])
    assert found.risks[1.0] == pytest.approx(1 - correct.mean())


def test_the_coverage_at_an_accuracy_is_the_highest_on_the_curve():
    confidence, correct = drawn()
    order = np.argsort(-confidence)
    right = np.cumsum(correct[order]) / np.arange(1, 401)
    found = selective(confidence, correct).kept
    for accuracy in (0.8, 0.9):
        expected = (np.flatnonzero(right >= accuracy)[-1] + 1) / 400
        assert found[accuracy].estimate == pytest.approx(expected)
        assert found[accuracy].low < expected < found[accuracy].high
    assert found[0.8].estimate > found[0.9].estimate
    # The curve may fall below an accuracy and rise above it again.
    assert selective([0.9, 0.8, 0.7, 0.6], [0, 1, 1, 1]).kept[0.8].estimate == 0
    assert selective([0.9, 0.8, 0.7, 0.6, 0.5], [0, 1, 1, 1, 1]).kept[0.8].estimate == 1


def test_the_chance_that_a_right_one_is_surer():
    confidence, correct = drawn()
    confidence = np.round(confidence, 1)  # with ties
    right, wrong = confidence[correct > 0][:, None], confidence[correct == 0]
    expected = ((right > wrong) + (right == wrong) / 2).mean()
    assert selective(confidence, correct).auroc.estimate == pytest.approx(expected)


def test_calibration_errors_are_those_of_the_definitions():
    confidence, correct = drawn()
    found = selective(confidence, correct)
    assert found.ece.estimate == pytest.approx(expected_calibration_error(confidence, correct))
    expected = ((1 - confidence[correct > 0]).mean() + confidence[correct == 0].mean()) / 2
    assert found.macro_ce.estimate == pytest.approx(expected)


def test_an_average_for_everyone_has_no_ece_and_half_of_macro_ce():
    correct = np.array([1.0, 0.0] * 50)
    found = selective(np.full(100, 0.5), correct)
    assert (found.ece.estimate, found.macro_ce.estimate, found.auroc.estimate) == (0.0, 0.5, 0.5)
    # All are as sure, so all are kept together.
    assert found.risks == dict.fromkeys((0.25, 0.5, 0.75, 1.0), 0.5)


def test_intervals_hold_the_estimate_and_narrow_with_more():
    few, many = (selective(*drawn(count)) for count in (100, 2000))
    for name in ("aurc", "auroc", "macro_ce"):
        small, large = getattr(few, name), getattr(many, name)
        assert small.low < small.estimate < small.high
        assert large.high - large.low < small.high - small.low


def test_scores_that_are_no_probabilities_are_ranked_alone():
    confidence, correct = drawn()
    found = selective(10 * confidence - 5, correct, probabilities=False)
    assert (found.ece, found.macro_ce) == (None, None)
    assert found.auroc == selective(confidence, correct).auroc
    with pytest.raises(DataError, match="between 0 and 1"):
        selective(10 * confidence, correct)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_all_are_alike_nothing_tells_them_apart(value):
    found = selective([0.2, 0.4, -np.inf, np.inf], [value] * 4, probabilities=False)
    assert found.auroc is None
    assert found.aurc.estimate == 1 - value
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_is_no_list_of_decisions_is_refused():
    for confidence, correct in ([], []), ([0.5], [0.5]), ([0.5], [1, 0]), ([np.nan], [1]):
        with pytest.raises(DataError):
            selective(confidence, correct)

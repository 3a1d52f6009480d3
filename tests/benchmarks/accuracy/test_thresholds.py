from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastspan.benchmarks.accuracy.thresholds import (
    fit_no_answer_threshold,
    precision_coverage,
    sweep_threshold,
)
from fastspan.errors import DataError, InputError

INF = math.inf

# Few different values, so that ties are the rule, and the awkward ones among them.
margins = st.sampled_from([-INF, -1e300, -2.5, -1.0, np.nextafter(-1.0, 0), 0.0, 5e-324, 3.0, 1e300, INF])
scores = st.sampled_from([0.0, 0.4, 1.0])


@given(st.lists(st.tuples(margins, scores, scores), min_size=1, max_size=12))
def test_the_sweep_finds_the_best_of_all_thresholds(rows):
    margin, answered, abstained = (np.array(column) for column in zip(*rows, strict=True))

    def mean_at(threshold: float) -> float:
        return float(np.where(margin > threshold, abstained, answered).mean())

    best, threshold = sweep_threshold(margin, answered, abstained)
    assert math.isfinite(threshold)
    assert mean_at(threshold) == pytest.approx(best)
    # A finite threshold splits at any finite margin, or below or above them all.
    finite = margin[np.isfinite(margin)]
    candidates = [*finite, *(np.nextafter(finite, -INF))]
    assert best >= max([mean_at(c) for c in candidates], default=best) - 1e-12


def test_the_threshold_lies_half_way_between_its_neighbours():
    best, threshold = sweep_threshold([-4.0, 2.0, 5.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0])
    assert (best, threshold) == (1.0, -1.0)


def test_neighbouring_floats_are_told_apart():
    # Half-way between the first two or between the last two rounds up, whichever has the odd last bit.
    first = 1.0
    second, third = np.nextafter(first, 2), np.nextafter(first, 2) + np.spacing(1.0)
    for gain in ([1.0, 0.0, 0.0], [1.0, 1.0, 0.0]):
        best, threshold = sweep_threshold([first, second, third], gain, [0.5, 0.5, 0.5])
        assert best == pytest.approx(np.maximum(gain, 0.5).mean())
        assert (np.array([first, second, third]) <= threshold).tolist() == [bool(g) for g in gain]


def test_always_and_never_answering_are_thresholds_too():
    never = sweep_threshold([-3.0, 4.0], [0.0, 0.0], [1.0, 1.0])
    always = sweep_threshold([-3.0, 4.0], [1.0, 1.0], [0.0, 0.0])
    assert never == (1.0, -4.0)
    assert always == (1.0, 5.0)


def test_of_equally_good_thresholds_the_lowest_is_taken():
    assert sweep_threshold([0.0, 2.0, 4.0], [1.0, 0.5, 0.5], [0.0, 0.5, 0.5]) == (pytest.approx(2 / 3), 1.0)


def test_precision_and_coverage_at_each_threshold():
    curve = precision_coverage([1.0, -1.0, 3.0, 3.0, INF], [0.0, 1.0, 1.0, 0.0, 1.0])
    assert curve.thresholds.tolist() == [0.0, 2.0, 4.0]
    assert curve.answers.tolist() == [1, 2, 4]
    assert curve.coverage.tolist() == [0.2, 0.4, 0.8]
    assert curve.precision.tolist() == [1.0, 0.5, 0.5]
    with pytest.raises(DataError, match="None of the questions has a span"):
        precision_coverage([INF, INF], [0.0, 1.0])


MARGINS = [-5.0, -4.0, -3.0, -2.0, -1.0, 0.0]
EXACT = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]
F1 = [1.0, 1.0, 0.5, 1.0, 0.6, 0.0]
UNANSWERABLE = [False, False, False, False, False, True]


def test_the_fit_maximizes_f1_and_reports_what_the_threshold_does():
    fit = fit_no_answer_threshold(MARGINS, EXACT, F1, UNANSWERABLE)
    assert fit.threshold == -0.5
    assert fit.f1 == pytest.approx((1 + 1 + 0.5 + 1 + 0.6 + 1) / 6)
    assert fit.exact == pytest.approx(4 / 6)
    assert fit.precision == pytest.approx(3 / 5)
    assert fit.coverage == pytest.approx(5 / 6)


def test_a_fit_that_never_answers_has_no_precision():
    fit = fit_no_answer_threshold([1.0, 2.0], [0.0, 0.0], [0.0, 0.0], [True, True])
    assert (fit.f1, fit.coverage) == (1.0, 0.0)
    assert math.isnan(fit.precision)


@pytest.mark.parametrize(
    ("target", "least", "threshold", "precision"),
    [
        # Precision along the curve: 1, 1, 2/3, 3/4, 3/5, 1/2. The loosest that reaches, not the first miss.
        (0.75, 1, -1.5, 0.75),
        (0.7, 1, -1.5, 0.75),
        (1.0, 1, -3.5, 1.0),
        (0.5, 1, 1.0, 0.5),
        (0.74, 4, -1.5, 0.75),
    ],
)
def test_a_target_precision_gives_the_loosest_threshold(target, least, threshold, precision):
    fit = fit_no_answer_threshold(
        MARGINS, EXACT, F1, UNANSWERABLE, target_precision=target, least_answers=least
    )
    assert (fit.threshold, fit.precision) == (threshold, precision)


def test_a_precision_out_of_reach_says_what_is_in_reach():
    with pytest.raises(DataError, match=r"precision of 0\.9: .* at least 3 answers is 0\.7500, .* -1\.5000"):
        fit_no_answer_threshold(MARGINS, EXACT, F1, UNANSWERABLE, target_precision=0.9, least_answers=3)
    with pytest.raises(DataError, match=r"at least 30 given answers .* only 6 questions"):
        fit_no_answer_threshold(MARGINS, EXACT, F1, UNANSWERABLE, target_precision=0.5)


@pytest.mark.parametrize(
    "options", [{"target_precision": 0.0}, {"target_precision": 95}, {"least_answers": 0}]
)
def test_options_are_checked(options):
    with pytest.raises(InputError, match=next(iter(options))):
        fit_no_answer_threshold(MARGINS, EXACT, F1, UNANSWERABLE, **{"target_precision": 0.5, **options})


@pytest.mark.parametrize(
    ("margin", "score"), [([], []), ([1.0], [1.0, 0.0]), ([[1.0]], [[1.0]]), ([math.nan], [1.0])]
)
def test_arrays_are_checked(margin, score):
    with pytest.raises(DataError):
        sweep_threshold(margin, score, score)

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from fastspan.benchmarks.calibration.confidence_fit import (
    ConfidenceCurve,
    ConfidenceFit,
    expected_calibration_error,
    fit_confidence,
    reliability_bins,
    split_halves,
)
from fastspan.benchmarks.questions.evaluation_set import OWN_SET
from fastspan.benchmarks.questions.squad_files import read_squad
from fastspan.bundle.manifest import Confidence
from fastspan.errors import DataError, InputError
from support.paths import SQUAD_PART

TRUE = ConfidenceFit(answered=ConfidenceCurve(0.3, -1.8), abstained=ConfidenceCurve(-0.25, 0.3))


def simulated(n: int, seed: int = 0):
    """Margins, and outcomes drawn from the true curves."""
    generator = np.random.default_rng(seed)
    margins = generator.normal(-2.0, 6.0, size=n)
    right = generator.random(n) < TRUE.answered(margins)
    # Where the best span is right, the question has an answer: draw the rest so that the total comes out.
    rest = TRUE.abstained(margins) / (1 - TRUE.answered(margins))
    return margins, right, ~right & (generator.random(n) < rest)


def test_a_curve_is_the_logistic_function_of_the_negated_margin():
    curve = ConfidenceCurve(scale=2.0, offset=-1.0)
    assert curve([0.0, -0.5, -3.0]).tolist() == pytest.approx([1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-5.0))])


def test_a_curve_is_defined_everywhere():
    infinite = [np.inf, -np.inf, 1e308, -1e308]
    assert ConfidenceCurve(2.0, 1.0)(infinite).tolist() == [0.0, 1.0, 0.0, 1.0]
    assert ConfidenceCurve(0.0, 0.0)(infinite).tolist() == [0.5] * 4


def test_each_decision_gets_its_curve():
    margins = np.array([-3.0, -3.0, 4.0])
    confidence = TRUE.confidence(margins, [False, True, True])
    assert confidence[0] == TRUE.answered(margins)[0]
    assert confidence[1:].tolist() == TRUE.abstained(margins)[1:].tolist()


def test_the_fit_is_what_a_bundle_stores():
    stored = json.loads(json.dumps(TRUE.to_dict()))
    assert stored == {
        "answered_scale": 0.3, "answered_offset": -1.8, "abstained_scale": -0.25, "abstained_offset": 0.3,
    }  # fmt: skip
    assert set(stored) <= {field.name for field in dataclasses.fields(Confidence)}


def test_the_fit_recovers_the_curves_that_made_the_data():
    margins, right, empty = simulated(40_000)
    fit = fit_confidence(margins, right, empty)
    assert fit.answered.scale == pytest.approx(0.3, abs=0.012)
    assert fit.answered.offset == pytest.approx(-1.8, abs=0.06)
    assert fit.abstained.scale == pytest.approx(-0.25, abs=0.012)
    assert fit.abstained.offset == pytest.approx(0.3, abs=0.05)


def test_the_fit_does_not_depend_on_the_unit_or_origin_of_the_margin():
    margins, right, empty = simulated(500)
    fit, moved = fit_confidence(margins, right, empty), fit_confidence(1e4 * margins + 3e5, right, empty)
    assert moved.answered(1e4 * margins + 3e5) == pytest.approx(fit.answered(margins), abs=1e-6)


def test_two_curves_are_calibrated_at_any_threshold_and_one_is_not():
    margins, right, empty = simulated(20_000)
    fit = fit_confidence(margins[:10_000], right[:10_000], empty[:10_000])
    margins, right, empty = margins[10_000:], right[10_000:], empty[10_000:]
    for threshold in (-6.0, 0.0, 4.0):
        abstained = margins > threshold
        correct = np.where(abstained, empty, right)
        assert expected_calibration_error(fit.confidence(margins, abstained), correct) < 0.02
        complement = 1 - fit.answered(margins[abstained])
        assert expected_calibration_error(complement, empty[abstained]) > 0.05


def test_separable_and_constant_margins_give_finite_curves():
    right = np.repeat([True, False], 50)
    apart = fit_confidence(np.where(right, -1.0, 1.0), right, ~right)
    assert apart.answered([-1.0])[0] > 0.9 > 0.1 > apart.answered([1.0])[0]
    assert np.isfinite(list(apart.to_dict().values())).all()

    level = fit_confidence(np.full(100, 0.1), np.arange(100) < 30, np.arange(100) >= 40)
    assert [level.answered.scale, level.abstained.scale] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert level.answered([0.1])[0] == pytest.approx(0.3, abs=0.01)


def test_infinite_margins_are_left_out():
    margins, right, empty = simulated(300)
    more = fit_confidence(
        np.append(margins, [np.inf, -np.inf]), np.append(right, [1, 0]), np.append(empty, [0, 1])
    )
    assert more == fit_confidence(margins, right, empty)


@pytest.mark.parametrize(
    ("right", "empty", "complaint"),
    [
        ([0, 0, 0], [1, 0, 1], "0 of 3 are questions whose best span is right"),
        ([1, 1, 1], [1, 0, 1], "3 of 3 are questions whose best span is right"),
        ([1, 0, 0], [0, 0, 0], "0 of 3 are unanswerable questions"),
        ([1, 0.5, 0], [0, 0, 1], "must be 0 or 1"),
        ([1, 0], [0, 1, 1], "one length"),
    ],
)
def test_a_fit_needs_both_kinds(right, empty, complaint):
    with pytest.raises(DataError, match=complaint):
        fit_confidence([1.0, 2.0, 3.0], right, empty)


def test_the_halves_are_halves_and_share_no_passage():
    passages = [f"passage {n // 3}" for n in range(600)]
    fitting, held = split_halves(passages)
    assert (fitting ^ held).all()
    assert fitting.sum() == held.sum() == 300
    assert all(len(set(fitting[n : n + 3])) == 1 for n in range(0, 600, 3))
    assert split_halves(passages[::-1])[0].tolist() == fitting[::-1].tolist()
    # One passage more, in whichever place, moves at most what lies at the cut.
    more, _ = split_halves(["new", *passages])
    assert (more[1:] != fitting).sum() <= 3


@pytest.mark.parametrize("sizes", [[1, 1], [1, 2, 9], [9, 2, 1], [30, 1, 1, 1], [5, 1, 5, 1, 5, 1]])
def test_the_halves_are_as_equal_as_whole_passages_in_order_allow(sizes):
    passages = [f"{n}" for n, size in enumerate(sizes) for _ in range(size)]
    fitting, held = split_halves(passages)
    assert fitting.any()
    assert held.any()
    assert abs(int(fitting.sum()) - int(held.sum())) <= max(sizes)


@pytest.mark.parametrize(("path", "sizes"), [(OWN_SET, (180, 187)), (SQUAD_PART, (1417, 1411))])
def test_real_questions_fall_into_halves(path, sizes):
    if not path.exists():
        pytest.skip("needs the part of SQuAD 2.0's dev set")
    passages = [q.context for q in read_squad(path)]
    fitting, held = split_halves(passages)
    assert (fitting.sum(), held.sum()) == sizes
    fitted = {passage for passage, chosen in zip(passages, fitting, strict=True) if chosen}
    assert fitted.isdisjoint(passage for passage, kept in zip(passages, held, strict=True) if kept)


def test_the_split_is_fixed_for_good():
    # Calibrations already stored were reported on such halves. sha256sum begins f9, 76, 3f and 37.
    fitting, _ = split_halves(["zero", "one", "two", "\udc80"])
    assert fitting.tolist() == [False, False, True, True]


def test_a_split_needs_passages_on_both_sides():
    with pytest.raises(DataError, match="2 questions on 1 passages"):
        split_halves(["same", "same"])
    with pytest.raises(DataError):
        split_halves([])


def test_bins_of_equal_width():
    bins = reliability_bins([0.0, 0.1, 0.5, 0.9, 1.0], [0, 1, 1, 1, 1], bins=2)
    assert [(b.low, b.high, b.count) for b in bins] == [(0.0, 0.5, 2), (0.5, 1.0, 3)]
    assert (bins[0].confidence, bins[0].accuracy) == (pytest.approx(0.05), 0.5)
    assert (bins[1].confidence, bins[1].accuracy) == (pytest.approx(0.8), 1.0)
    assert len(reliability_bins([0.11, 0.12], [0, 1], bins=10)) == 1


def test_expected_calibration_error_by_hand():
    confidence, correct = [0.2, 0.2, 0.9, 0.9, 0.9], [0, 1, 1, 1, 0]
    by_hand = 2 / 5 * abs(0.2 - 0.5) + 3 / 5 * abs(0.9 - 2 / 3)
    assert expected_calibration_error(confidence, correct) == pytest.approx(by_hand)
    assert expected_calibration_error([1.0, 0.0], [1, 0]) == 0.0
    assert expected_calibration_error([1.0, 0.0], [0, 1]) == 1.0


def test_chance_alone_gives_some_calibration_error():
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.3, 0.9, size=1000)
    errors = [expected_calibration_error(confidence, generator.random(1000) < confidence) for _ in range(50)]
    assert 0.02 < np.mean(errors) < 0.06


@pytest.mark.parametrize(
    ("confidence", "correct"),
    [([], []), ([1.1], [1]), ([-0.1], [1]), ([0.5], [0.5]), ([0.5, 0.5], [1]), ([np.nan], [1])],
)
def test_confidences_are_checked(confidence, correct):
    with pytest.raises(DataError):
        expected_calibration_error(confidence, correct)


def test_the_number_of_bins_is_checked():
    with pytest.raises(InputError, match="bins"):
        reliability_bins([0.5], [1], bins=0)

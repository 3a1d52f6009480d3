"""How far live confidences lie from those of the calibration."""

from __future__ import annotations

import pytest

from fastspan.serving.observing.drift import Drift

EVENLY = [10] * 10


def added(drift: Drift, confidences: list[float]) -> Drift:
    for confidence in confidences:
        drift.add(confidence)
    return drift


def spread(low: float, high: float, count: int = 500) -> list[float]:
    return [low + (high - low) * number / count for number in range(count)]


def test_five_hundred_answers_tell_how_far_they_lie_from_the_calibration() -> None:
    drift = added(Drift(EVENLY), spread(0, 1, 499))
    assert drift.distance() is None
    drift.add(1.0)
    assert drift.distance() == pytest.approx(0, abs=0.005)


def test_the_distance_is_the_share_that_would_have_to_change_its_tenth() -> None:
    # Half of the tenths have twice what they should, the others nothing.
    assert added(Drift(EVENLY), spread(0.5, 1)).distance() == pytest.approx(0.5)
    assert added(Drift([1] + [0] * 9), [0.95] * 500).distance() == 1


def test_only_the_latest_count() -> None:
    drift = added(Drift(EVENLY), [0.95] * 700)
    assert drift.distance() == pytest.approx(0.9)
    assert added(drift, spread(0, 1)).distance() == pytest.approx(0)


def test_without_a_calibration_the_first_answers_are_compared_with() -> None:
    drift = added(Drift(), spread(0, 1))
    assert drift.distance() is None
    assert added(drift, spread(0, 1, 499)).distance() is None
    drift.add(1.0)
    assert drift.distance() == pytest.approx(0, abs=0.005)
    assert added(drift, [0.05] * 500).distance() == pytest.approx(0.9)


def test_the_ends_belong_to_the_outer_tenths() -> None:
    assert added(Drift([1] + [0] * 8 + [1]), [0.0, 1.0] * 250).distance() == 0

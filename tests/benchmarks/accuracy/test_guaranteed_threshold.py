"""A promise of a precision: kept as often as it says, and refused with the number of questions it takes."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from fastspan.benchmarks.accuracy.guaranteed_threshold import (
    _sequence,
    answers_needed,
    chance_of_as_many,
    guaranteed_threshold,
)
from fastspan.benchmarks.accuracy.thresholds import precision_coverage
from fastspan.errors import DataError, InputError


def questions(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Margins, and whether spans are right, with a probability that falls as the margin rises."""
    margins = rng.normal(size=count)
    return margins, (rng.random(count) < 1 / (1 + np.exp(2 * margins))).astype(float)


@cache
def many() -> tuple[np.ndarray, np.ndarray]:
    """So many margins that they are as good as all, ascending, and the precision up to each."""
    margins = np.sort(np.random.default_rng(0).normal(size=100_000))
    return margins, np.cumsum(1 / (1 + np.exp(2 * margins))) / np.arange(1, len(margins) + 1)


def true_precision(threshold: float) -> float:
    margins, precisions = many()
    return float(precisions[np.searchsorted(margins, threshold, side="right") - 1])


def test_the_binomial_tail():
    assert chance_of_as_many(0, 10, 0.3) == 1.0
    assert chance_of_as_many(10, 10, 0.3) == pytest.approx(0.3**10)
    expected = sum(math.comb(20, n) * 0.4**n * 0.6 ** (20 - n) for n in range(9, 21))
    assert chance_of_as_many(9, 20, 0.4) == pytest.approx(expected)
    assert 0 < chance_of_as_many(96_000, 100_000, 0.955) < 1e-10


def test_a_promise_is_broken_no_more_often_than_it_says():
    broken = made = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        try:
            threshold, promise = guaranteed_threshold(
                *questions(400, rng), *questions(400, rng), precision=0.8, level=0.9
            )
        except DataError:
            continue
        made += 1
        broken += true_precision(threshold) < 0.8
        assert promise.right / promise.answers > 0.8
    assert made > 150
    # Of 200 with a chance of 0.1 each, more than 32 are one case in a thousand; seeds are fixed.
    assert broken <= 32


def test_more_certainty_costs_answers():
    rng = np.random.default_rng(1)
    halves = *questions(3000, rng), *questions(3000, rng)
    found = [guaranteed_threshold(*halves, precision=0.8, level=level) for level in (0.5, 0.9, 0.999)]
    answers = [promise.answers for _, promise in found]
    assert answers == sorted(answers, reverse=True)
    assert answers[0] > answers[-1]
    assert [threshold for threshold, _ in found] == sorted((t for t, _ in found), reverse=True)


def test_the_half_that_tests_has_no_say_in_which_thresholds_are_tried():
    rng = np.random.default_rng(1)
    fit, (margins, right) = questions(1000, rng), questions(1000, rng)
    tried = _sequence(precision_coverage(*fit), 0.8).tolist()
    assert tried == sorted(tried)
    found = [
        guaranteed_threshold(*fit, margins, labels, precision=0.8, level=0.9)[0]
        for labels in (right, np.ones(1000), np.maximum(right, margins < 0.5))
    ]
    assert set(found) <= set(tried)
    # Where all is right, the loosest one.
    assert found[1] == tried[-1]


def test_too_few_questions_are_told_how_many_it_takes():
    margins = np.linspace(-2, 2, 40)
    right = (margins < 0).astype(float)
    with pytest.raises(DataError, match=r"takes about [\d,]+ questions like these; there are 80") as caught:
        guaranteed_threshold(margins, right, margins, right, precision=0.95, level=0.9)
    assert "cannot be promised" in str(caught.value)
    # 45 right answers of 45 are the fewest that show it: 0.95 ** 45 < 0.1.
    assert answers_needed(1.0, 0.95, 0.9) == 45
    assert chance_of_as_many(45, 45, 0.95) < 0.1 < chance_of_as_many(44, 44, 0.95)


def test_two_right_answers_of_two_are_no_reason_to_be_sure():
    margins = np.linspace(-2, 2, 400)
    right = np.tile([0.0, 1.0], 200)
    right[:2] = 1.0
    with pytest.raises(DataError, match="no larger share than that"):
        guaranteed_threshold(margins, right, margins, right, precision=0.8, level=0.9)


@pytest.mark.parametrize("share", [0.96, 0.97, 0.99])
def test_as_many_answers_as_are_said_to_be_needed_suffice(share):
    needed = answers_needed(share, 0.95, 0.9)
    assert chance_of_as_many(round(share * needed), needed, 0.95) < 0.12
    assert chance_of_as_many(round(share * needed / 2), needed // 2, 0.95) > 0.1


def test_what_no_threshold_reaches_is_told():
    rng = np.random.default_rng(0)
    margins, right = rng.normal(size=500), (rng.random(500) < 0.5).astype(float)
    with pytest.raises(DataError, match=r"cannot be promised .* Ask for less|takes about"):
        guaranteed_threshold(margins, right, margins[::-1], right, precision=0.9, level=0.9)
    with pytest.raises(DataError, match="has a span"):
        guaranteed_threshold([np.inf], [0.0], [np.inf], [0.0], precision=0.9, level=0.9)
    for wrong in ({"precision": 1.0, "level": 0.9}, {"precision": 0.9, "level": 0.0}):
        with pytest.raises(InputError):
            guaranteed_threshold(margins, right, margins, right, **wrong)

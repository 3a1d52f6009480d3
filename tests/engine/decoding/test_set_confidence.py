"""What is seen of a set, and the probability that is made of it."""

from __future__ import annotations

import math

import pytest

from fastspan.decoding.set_confidence import SetFeatures, normalized, retriever_place, set_confidence
from support.bundles.set_curves import SETS


def test_the_curve_is_a_logistic_regression_over_what_was_seen() -> None:
    seen = SetFeatures(margin=-4.0, rival=0.5, agreeing=2, retriever=None)
    log_odds = 0.1 + 0.5 * 4.0 - 2.0 * 0.5 + 0.7 * math.log(3)
    assert set_confidence(seen, SETS, answered=True) == pytest.approx(1 / (1 + math.exp(-log_odds)))
    assert set_confidence(seen, SETS, answered=False) == pytest.approx(1 / (1 + math.exp(0.2 + 2.0)))


@pytest.mark.parametrize(
    ("text", "same"), [("The Tower!", "tower"), ("a  tower,", "Tower"), ("tower", "tower.")]
)
def test_texts_are_compared_as_squad_compares_answers(text: str, same: str) -> None:
    assert normalized(text) == normalized(same)
    assert normalized(text) != normalized("towers")


def test_the_retrievers_scores_have_no_unit() -> None:
    assert [retriever_place([3.0, -1.0, 1.0], passage) for passage in range(3)] == [1.0, 0.0, 0.5]
    assert retriever_place([2.0, 2.0], 1) == 1.0
    assert retriever_place([1e308, -1e308], 0) == 1.0


def test_a_probability_of_anything_that_was_seen() -> None:
    for margin in (-1e6, 0.0, 1e6, math.inf):
        for retriever in (None, 0.3):
            seen = SetFeatures(margin=margin, rival=1.0, agreeing=3, retriever=retriever)
            for answered in (True, False):
                assert 0.0 <= set_confidence(seen, SETS, answered=answered) <= 1.0

"""How long runs take, learned from those that ran: a fixed cost and a time a token."""

from __future__ import annotations

import math
import random

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving.scheduling.pace import Density, Foresight, Pace


def learned(fixed: float, each: float, sizes: list[int], side_by_side: int = 1) -> Pace:
    pace = Pace(side_by_side)
    for tokens in sizes:
        pace.measured([tokens], fixed + each * tokens)
    return pace


def sizes(count: int, least: int = 20, most: int = 500) -> list[int]:
    chosen = random.Random(0)
    return [chosen.randrange(least, most) for _ in range(count)]


def test_nothing_is_known_before_the_first_run() -> None:
    pace = Pace(2)
    assert pace.tokens_per_second is None
    assert pace.seconds(1000) == pace.run_seconds(1000) == 0
    assert pace.tokens_within(0.1) == pace.enough_tokens() == math.inf


def test_the_pace_is_of_all_runs_together() -> None:
    pace = Pace(2)
    pace.measured([100], 1.0)
    assert pace.tokens_per_second == 200
    assert pace.seconds(400) == 2
    assert pace.run_seconds(400) == 4
    assert pace.tokens_within(4) == 400


def test_no_early_run_counts_for_more_than_others() -> None:
    """A slow first run does not make a service refuse for long what it could do."""
    pace = learned(0, 0.001, [100] * 20)
    slow = Pace(1)
    slow.measured([100], 2.0)
    for _ in range(20):
        slow.measured([100], 0.1)
    assert slow.run_seconds(100) < 2 * pace.run_seconds(100)
    for _ in range(200):
        slow.measured([100], 0.1)
    assert slow.run_seconds(100) == pytest.approx(0.1, rel=0.05)


def test_what_was_known_before_the_first_request_counts_for_several() -> None:
    pace = Pace(1)
    pace.begin_with(100, 0.1)
    assert pace.run_seconds(100) == pytest.approx(0.1)
    pace.measured([100], 1.0)
    assert pace.run_seconds(100) < 0.2
    assert pace.enough_tokens() == math.inf


def test_what_a_run_costs_beside_its_tokens_is_learned() -> None:
    pace = learned(0.02, 0.001, sizes(500))
    assert pace.run_seconds(0) == pytest.approx(0.02, rel=0.1)
    assert pace.run_seconds(300) == pytest.approx(0.32, rel=0.02)
    assert pace.tokens_within(0.32) == pytest.approx(300, rel=0.02)


def test_a_run_is_large_enough_once_its_fixed_cost_is_a_small_part() -> None:
    pace = learned(0.02, 0.001, sizes(500))
    enough = pace.enough_tokens()
    assert 0.02 / pace.run_seconds(round(enough)) == pytest.approx(1 / 32, rel=0.1)
    # Where runs cost nothing but their tokens, no window gains by company.
    assert learned(0, 0.001, sizes(500)).enough_tokens() == pytest.approx(0, abs=1e-6)
    # Where tokens cost nothing beside the run, as much as possible shares it.
    assert learned(0.02, 0, sizes(500)).enough_tokens() > 100_000


def test_runs_that_take_longer_than_their_size_says_cost_nothing_beside_it() -> None:
    pace = Pace(1)
    for tokens in sizes(500):
        pace.measured([tokens], 1e-6 * tokens**2)
    assert pace.enough_tokens() < 20
    assert pace.run_seconds(0) == 0


def test_long_windows_that_take_more_than_their_share_do_not_hide_what_a_run_costs() -> None:
    """Attention takes time by the square of a window's length; a line through such runs begins too low."""
    pace = Pace(1)
    for tokens in sizes(2000, 50, 384):
        pace.measured([tokens], 0.01 + 0.001 * tokens + 2e-6 * tokens**2)
    assert pace.run_seconds(0) < 0.005
    assert 120 < pace.enough_tokens() < 260


@pytest.mark.parametrize("ran", [sizes(5), [100] * 50, sizes(50, 98, 103)])
def test_too_few_runs_or_too_equal_ones_tell_of_no_fixed_cost(ran: list[int]) -> None:
    pace = learned(0.02, 0.001, ran)
    assert pace.enough_tokens() == math.inf
    assert pace.run_seconds(0) == 0


def test_what_has_changed_is_learned_anew() -> None:
    pace = learned(0.02, 0.001, sizes(500))
    enough = pace.enough_tokens()
    for tokens in sizes(200):
        pace.measured([tokens], 2 * (0.02 + 0.001 * tokens))
    # A machine that is slower for a while is soon known as such, and has the same right size of a run.
    assert pace.run_seconds(300) == pytest.approx(0.64, rel=0.05)
    assert pace.enough_tokens() == pytest.approx(enough, rel=0.2)
    for tokens in sizes(4000):
        pace.measured([tokens], 0.002 * tokens)
    assert pace.run_seconds(300) == pytest.approx(0.6, rel=0.01)
    assert pace.enough_tokens() < 1


def test_estimates_that_come_true_are_trusted() -> None:
    foresight = Foresight()
    assert foresight.safe(2.0, 1.0) == 2
    for _ in range(50):
        foresight.took(2.0, 1.9, 1.0)
    assert foresight.safe(2.0, 1.0) == 2


def test_estimates_that_are_too_short_are_made_longer_until_they_come_true() -> None:
    foresight = Foresight()
    for _ in range(200):
        foresight.took(2.0, 3.5, 1.0)
    assert foresight.safe(2.0, 1.0) == pytest.approx(3.5, rel=0.01)
    for _ in range(200):
        foresight.took(2.0, 2.0, 1.0)
    assert foresight.safe(2.0, 1.0) == pytest.approx(2, rel=0.01)


def test_the_more_they_vary_the_longer_is_a_safe_estimate() -> None:
    steady, unsteady = Foresight(), Foresight()
    for number in range(200):
        steady.took(1.0, 1.0, 0.0)
        unsteady.took(1.0, 0.6 if number % 2 else 1.4, 0.0)
    assert unsteady.safe(1.0, 0.0) > 1.5 > steady.safe(1.0, 0.0)


def test_a_run_more_or_less_is_no_error() -> None:
    foresight = Foresight()
    for _ in range(200):
        foresight.took(0.1, 0.3, 2.0)
    assert foresight.safe(10.0, 2.0) < 11.5


def test_one_that_took_for_ever_closes_the_service_for_nobody() -> None:
    foresight = Foresight()
    for _ in range(200):
        foresight.took(0.001, 1000.0, 0.0)
    assert foresight.safe(1.0, 0.0) == 3
    foresight.took(0.0, 1.0, 0.0)
    assert foresight.safe(1.0, 0.0) == 3


def test_the_tokens_of_a_body_are_told_by_its_size_and_how_texts_differ() -> None:
    density = Density()
    assert density.tokens(1000) == (0, 0)
    density.found(250, 1000)
    # One text says nothing of the least that others may have.
    assert density.tokens(2000)[0] == 500
    assert density.tokens(2000)[1] < 100
    for _ in range(100):
        density.found(250, 1000)
    assert density.tokens(2000) == (500, pytest.approx(500, abs=10))
    for number in range(200):
        density.found(200 + 100 * (number % 2), 1000)
    expected, least = density.tokens(2000)
    assert expected == pytest.approx(500, rel=0.05)
    assert least == pytest.approx(300, rel=0.1)

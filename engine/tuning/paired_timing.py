"""Two ways to run the same questions, measured in turns, so that what else the machine does slows both.

Turns alternate. Before each there is a pause, because threads that spin after the other's last run would be
measured with it, and one run that does not count, because it wakes threads and fills caches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from fastspan.answerer import QuestionAnswerer
from fastspan.tuning.sample_texts import Texts

__all__ = ["Duel", "duel"]


_PAUSE_S = 0.05
_TURN_S = 0.06
_MOST_TURNS = 40
# A change must gain this much, in the median turn, and gain anything in this share of the turns.
_WORTH_IT = 0.97
_AGREEING = 0.8
_LEAST_TURNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """How two ways to run the same questions compare.

    Attributes:
        champion: Median seconds for one question, as it is run so far.
        challenger: The same for the other way.
        turns: How many turns each had.
        won: Whether the challenger is faster by so much, and so regularly, that it is no chance.
    """

    champion: float
    challenger: float
    turns: int
    won: bool


def duel(champion: QuestionAnswerer, challenger: QuestionAnswerer, texts: Texts, until: float) -> Duel:
    """Measure two answerers on the same questions.

    Args:
        champion: The one to beat.
        challenger: The other.
        texts: One pair, which ``answer`` gets, or several for ``answer_many``.
        until: When to begin no further turn, on ``time.monotonic``'s clock; each has at least one.
    """
    first, second = (_asking(answerer, texts) for answerer in (champion, challenger))
    ours: list[float] = []
    theirs: list[float] = []
    while not ours or (len(ours) < _MOST_TURNS and time.monotonic() < until):
        # Whoever goes first is not always the same.
        if len(ours) % 2:
            theirs.append(_turn(second))
            ours.append(_turn(first))
        else:
            ours.append(_turn(first))
            theirs.append(_turn(second))
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    gained = sum(ratio < 1 for ratio in ratios) / len(ratios)
    return Duel(
        champion=statistics.median(ours) / len(texts),
        challenger=statistics.median(theirs) / len(texts),
        turns=len(ours),
        won=len(ours) >= _LEAST_TURNS and statistics.median(ratios) < _WORTH_IT and gained >= _AGREEING,
    )


def _asking(answerer: QuestionAnswerer, texts: Texts) -> Callable[[], object]:
    if len(texts) > 1:
        return lambda: list(answerer.answer_many(texts))
    ((question, context),) = texts
    return lambda: answerer.answer(question, context)


def _turn(ask: Callable[[], object]) -> float:
    """The median seconds of some runs, after one that does not count."""
    time.sleep(_PAUSE_S)
    ask()
    taken: list[float] = []
    while sum(taken) < _TURN_S:
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)

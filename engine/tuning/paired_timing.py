"""Two ways to run the same questions, measured in turns, so that what else the machine does slows both.

Turns alternate. Each begins with one run that does not count, because it wakes threads and fills caches, and
ends with a pause until all threads sleep: those that spin after a run would be measured with the other's next
one, and what they use is part of what an answer costs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fastspan.answerer import QuestionAnswerer
from fastspan.tuning.sample_texts import Texts

__all__ = ["Duel", "TakeTurn", "Turn", "duel", "take_turn"]


# A pause ends when the process used less than this share of a core in one of its steps.
_PAUSE_S = 0.02
_ASLEEP = 0.05
_MOST_PAUSES = 25
_TURN_S = 0.06
_MOST_TURNS = 40
# A change must gain this much, in the median turn, and gain anything in this share of the turns.
_WORTH_IT = 0.97
_AGREEING = 0.8
_LEAST_TURNS = 5
# A change saves processor time when it takes this share of it, and is hardly slower.
_THRIFTY = 0.8
_HARDLY_SLOWER = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """How two ways to run the same questions compare.

    Attributes:
        champion: Median seconds for one question, as it is run so far.
        challenger: The same for the other way.
        champion_cpu: Median processor seconds for one question, of all threads of the process, until they
            sleep again; as it is run so far.
        challenger_cpu: The same for the other way.
        turns: How many turns each had.
        won: Whether the challenger is faster by so much, and so regularly, that it is no chance.
        thrifty: Whether it takes much less processor time, as regularly, and is hardly slower.
    """

    champion: float
    challenger: float
    champion_cpu: float
    challenger_cpu: float
    turns: int
    won: bool
    thrifty: bool


class Turn(NamedTuple):
    """Seconds of a run, and processor seconds until all threads sleep again."""

    seconds: float
    cpu_seconds: float


def take_turn(answerer: QuestionAnswerer, texts: Texts) -> Turn:
    """Run questions now, and say what that took.

    Args:
        answerer: What answers.
        texts: One pair, which ``answer`` gets, or several for ``answer_many``.
    """
    return _turn(_asking(answerer, texts))


TakeTurn = Callable[[QuestionAnswerer, Texts], Turn]
"""How a turn is taken: ``take_turn``, or what stands for it."""


def duel(
    champion: QuestionAnswerer,
    challenger: QuestionAnswerer,
    texts: Texts,
    until: float,
    take: TakeTurn = take_turn,
) -> Duel:
    """Measure two answerers on the same questions.

    Args:
        champion: The one to beat.
        challenger: The other.
        texts: One pair, which ``answer`` gets, or several for ``answer_many``.
        until: When to begin no further turn, on ``time.monotonic``'s clock; each has at least one.
        take: How a turn is taken.
    """
    ours: list[Turn] = []
    theirs: list[Turn] = []
    while not ours or (len(ours) < _MOST_TURNS and time.monotonic() < until):
        # Whoever goes first is not always the same.
        if len(ours) % 2:
            theirs.append(take(challenger, texts))
            ours.append(take(champion, texts))
        else:
            ours.append(take(champion, texts))
            theirs.append(take(challenger, texts))
    enough = len(ours) >= _LEAST_TURNS
    slower = [b.seconds / a.seconds for a, b in zip(ours, theirs, strict=True)]
    costlier = [b.cpu_seconds / a.cpu_seconds for a, b in zip(ours, theirs, strict=True)]
    return Duel(
        champion=statistics.median(turn.seconds for turn in ours) / len(texts),
        challenger=statistics.median(turn.seconds for turn in theirs) / len(texts),
        champion_cpu=statistics.median(turn.cpu_seconds for turn in ours) / len(texts),
        challenger_cpu=statistics.median(turn.cpu_seconds for turn in theirs) / len(texts),
        turns=len(ours),
        won=enough and _regularly_below(slower, _WORTH_IT),
        thrifty=enough
        and _regularly_below(costlier, _THRIFTY)
        and statistics.median(slower) < _HARDLY_SLOWER,
    )


def _regularly_below(ratios: Sequence[float], limit: float) -> bool:
    """Whether the median ratio is below the limit, and nearly all are below 1."""
    gained = sum(ratio < 1 for ratio in ratios) / len(ratios)
    return statistics.median(ratios) < limit and gained >= _AGREEING


def _asking(answerer: QuestionAnswerer, texts: Texts) -> Callable[[], object]:
    if len(texts) > 1:
        return lambda: list(answerer.answer_many(texts))
    ((question, context),) = texts
    return lambda: answerer.answer(question, context)


def _turn(ask: Callable[[], object]) -> Turn:
    """The median time of some runs, after one that does not count, and what the last of them cost."""
    ask()
    taken: list[float] = []
    while sum(taken) < _TURN_S:
        cpu_began, began = time.process_time(), time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    _wait_for_sleep()
    return Turn(statistics.median(taken), time.process_time() - cpu_began)


def _wait_for_sleep() -> None:
    """Wait until no thread of the process spins any more; some CPUs let them for a third of a second."""
    for _ in range(_MOST_PAUSES):
        before = time.process_time()
        time.sleep(_PAUSE_S)
        if time.process_time() - before < _ASLEEP * _PAUSE_S:
            return

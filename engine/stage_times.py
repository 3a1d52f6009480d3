"""Where the time of an answer goes, for whoever asks.

Inside ``with stage_times() as times:`` every call to an answerer adds to ``times`` what its stages took. It
is kept in a context variable: it covers the calls of this thread or task alone, and costs next to nothing
where nobody asks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["StageClock", "StageTimes", "stage_times"]


@dataclass(slots=True)
class StageTimes:
    """Seconds on a clock that the calling thread spent in each stage.

    Attributes:
        encode: Texts to windows.
        plan: Windows to batches.
        run: Batches to logits; where other threads run them, what was waited for them.
        decode: Logits to predictions.
    """

    encode: float = 0.0
    plan: float = 0.0
    run: float = 0.0
    decode: float = 0.0


_asked: ContextVar[StageTimes | None] = ContextVar("fastspan_stage_times", default=None)


@contextmanager
def stage_times() -> Iterator[StageTimes]:
    """Measure the stages of the calls made inside. Of nested ones, the innermost measures."""
    times = StageTimes()
    token = _asked.set(times)
    try:
        yield times
    finally:
        _asked.reset(token)


class StageClock:
    """Adds to the times that were asked for, if any, what passes from one call of ``lap`` to the next."""

    __slots__ = ("_last", "_times")

    def __init__(self) -> None:
        self._times = _asked.get()
        self._last = 0.0 if self._times is None else time.perf_counter()

    def lap(self, stage: str) -> None:
        """Add what passed since the last lap to ``stage``, a field of ``StageTimes``."""
        if self._times is not None:
            now = time.perf_counter()
            setattr(self._times, stage, getattr(self._times, stage) + now - self._last)
            self._last = now

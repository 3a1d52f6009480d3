"""Runs that a deadline ends, measured in processor time: others may hold the cores meanwhile."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest

from fastspan import DeadlineExceeded

# Where in a run the deadline lies. A run that had the cores to share may later take half as long.
_PARTS = (0.05, 0.1, 0.2, 0.3, 0.4)
_WITHIN_S = 0.05


def check_stops(run: Callable[[float | None], object], threads: int) -> None:
    """Hold a run to ending within 50 ms of its deadline, wherever in the run that lies.

    Until the deadline its threads can have used no more than all the time there was. What is above that was
    used behind it. Threads that still spin from a run before are counted too, but not in most of the runs.

    Args:
        run: Given a deadline, or None for none, runs what takes some tenths of a second.
        threads: How many threads it computes with.
    """
    whole = min(_seconds(run) for _ in range(3))
    behind = []
    for part in _PARTS:
        used, deadline = time.process_time(), time.monotonic() + part * whole
        with pytest.raises(DeadlineExceeded, match="deadline passed"):
            run(deadline)
        behind.append((time.process_time() - used) / threads - part * whole)
        assert time.monotonic() >= deadline
    assert statistics.median(behind) <= _WITHIN_S, behind


def _seconds(run: Callable[[float | None], object]) -> float:
    began = time.monotonic()
    run(None)
    return time.monotonic() - began

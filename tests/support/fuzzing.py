"""Tests that search for inputs which break a promise: shortly and alike, or at random for a stated time.

By themselves they try a few dozen inputs, the same ones at each run. With ``pytest --fuzz-seconds=N``, which
``make fuzz SECONDS=N`` calls, they alone run, share the time among them, and try other inputs at each run.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from fastspan import FastSpanError
from fastspan.cli.terminal import harmless

__all__ = ["LONGEST_MESSAGE", "check_message", "fuzzed", "give_time", "run_for_its_share", "watched"]

LONGEST_MESSAGE = 2000
HANG_SECONDS = 60
# Inputs between two looks at the clock.
_ROUND = 50

_seconds: float | None = None


def give_time(seconds: float) -> None:
    """Let the tests that are collected from now on search for so long in all."""
    global _seconds
    _seconds = seconds


def fuzzed(examples: int) -> Callable[[Any], Any]:
    """Mark a test, behind its ``given``, as one that searches.

    Args:
        examples: How many inputs it tries when no time is given.
    """
    timed = _seconds is not None
    chosen = settings(
        max_examples=min(_ROUND, examples) if timed else examples,
        derandomize=not timed,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: pytest.mark.fuzz(chosen(test))


def run_for_its_share(item: pytest.Function, share: float) -> None:
    """Call a test again and again until its share of the time is over; each call tries other inputs."""
    names = item._fixtureinfo.argnames
    given = {name: item.funcargs[name] for name in names}
    until = time.monotonic() + share
    rounds = 0
    while rounds == 0 or time.monotonic() < until:
        item.obj(**given)
        rounds += 1
    item.user_properties.append(("fuzz", f"{item.name}: {rounds} rounds"))


@contextmanager
def watched() -> Iterator[None]:
    """End what hangs, where a time was given; what is slow on a busy machine is not meant."""
    if _seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise AssertionError(f"nothing came back within {HANG_SECONDS} s")

    former = signal.signal(signal.SIGALRM, end)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def check_message(error: FastSpanError) -> None:
    """Hold an error to what every message promises: short, and nothing that a terminal obeys."""
    text = str(error)
    assert text.strip(), repr(error)
    assert len(text) < LONGEST_MESSAGE, f"{len(text)} characters: {text[:500]}"
    assert harmless(text) == text, ascii(text[:500])

"""Runs that end at a deadline: ONNX Runtime stops between two operators once its run options say so.

FastSpan's own kernels are one operator, which looks at the clock itself (``kernel_session``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastspan.errors import DeadlineExceeded, InputError
from fastspan.options import is_number, shown
from fastspan.runtime.providers import import_onnxruntime

__all__ = ["TOO_LATE", "check_deadline", "deadline_in", "terminated_at"]

TOO_LATE = "The deadline passed before the model had run: allow more time, or ask for fewer or shorter texts."
"""The message of ``DeadlineExceeded``."""


def check_deadline(deadline: float | None) -> None:
    """Refuse to go on once a deadline has passed.

    Args:
        deadline: On ``time.monotonic``'s clock; None: there is none.

    Raises:
        DeadlineExceeded: It has passed.
    """
    if deadline is not None and time.monotonic() >= deadline:
        raise DeadlineExceeded(TOO_LATE)


@contextmanager
def terminated_at(deadline: float) -> Iterator[Any]:
    """Run options that a timer terminates at the deadline; one object a call, so no other run is touched.

    Args:
        deadline: On ``time.monotonic``'s clock.

    Raises:
        DeadlineExceeded: It has passed already.
    """
    check_deadline(deadline)
    run_options = import_onnxruntime().RunOptions()

    def terminate() -> None:
        """Ask ONNX Runtime to give up the run that has these options."""
        run_options.terminate = True

    left = max(0.0, deadline - time.monotonic())
    timer = threading.Timer(min(left, threading.TIMEOUT_MAX), terminate)
    timer.daemon = True
    timer.start()
    try:
        yield run_options
    finally:
        timer.cancel()


def deadline_in(timeout: float | None) -> float | None:
    """Return when a call gives up, on ``time.monotonic``'s clock.

    Args:
        timeout: Seconds from now; None: never.

    Raises:
        InputError: It is no number, or none that a float can hold.
    """
    if timeout is None:
        return None
    if not is_number(timeout):
        raise InputError(f"timeout must be a number of seconds or None, not {shown(timeout)}.")
    return time.monotonic() + timeout

"""Who may touch the GPU: any number of runs and copies at once, or one capture alone.

ONNX Runtime captures CUDA graphs in CUDA's global mode. While such a capture is under way, a call of any
other thread of the process that could wait for the GPU, such as an allocation or a copy, fails with error
900 and takes the capture with it. One thread of a session's own does all its work, but a second bundle may
be loaded, and capture, while the first one answers. So whatever touches the GPU asks here first.

A capture that waits goes before runs that come after it: else a busy service would never let a second bundle
load. It takes a fraction of a second, and a load has a dozen.

What other libraries do on the GPU goes past this, and so does what happens when a session is destroyed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import TIMEOUT_MAX, Condition, Lock

from fastspan.errors import DeadlineExceeded
from fastspan.runtime.deadline import TOO_LATE

__all__ = ["gpu_alone", "gpu_shared"]


class _Gate:
    """Readers and writers of a GPU, in the terms of locks: runs read, captures write."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._turn = Lock()
        self._sharing = 0
        # Those that wait, and the one under way.
        self._captures = 0

    @contextmanager
    def shared(self, deadline: float | None) -> Iterator[None]:
        """Be one of many, once no capture waits or is under way."""
        left = None if deadline is None else min(max(0.0, deadline - time.monotonic()), TIMEOUT_MAX)
        with self._changed:
            if not self._changed.wait_for(lambda: self._captures == 0, left):
                raise DeadlineExceeded(TOO_LATE)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody in, and begin once all that are inside have left."""
        with self._changed:
            self._captures += 1
        try:
            with self._turn:
                with self._changed:
                    self._changed.wait_for(lambda: self._sharing == 0)
                yield
        finally:
            with self._changed:
                self._captures -= 1
                self._changed.notify_all()


_gate = _Gate()


def gpu_shared(deadline: float | None = None) -> AbstractContextManager[None]:
    """Run, copy or allocate, beside others that do and while nothing is captured. Never within another.

    Args:
        deadline: When to give up waiting for captures, on ``time.monotonic``'s clock; None never does.

    Raises:
        DeadlineExceeded: Captures were waited for until the deadline.
    """
    return _gate.shared(deadline)


def gpu_alone() -> AbstractContextManager[None]:
    """Capture, while nothing else of this process touches the GPU. Never within a share of it."""
    return _gate.alone()


def _renew() -> None:
    """Give a forked child a gate of its own: the threads that were inside did not come along."""
    global _gate
    _gate = _Gate()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)

"""What becomes of a run that failed: a deadline that passed, an error, or a second try in halves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fastspan.errors import DeadlineExceeded, InferenceError
from fastspan.runtime.deadline import TOO_LATE
from fastspan.text.encoder import Window

__all__ = ["Halves", "Logits", "OutOfMemory", "failure"]

Logits = NDArray[np.float32]

# What ONNX Runtime's arena, CUDA, cuBLAS and cuDNN say when memory ran out.
_OUT_OF_MEMORY = (
    "Failed to allocate memory",
    "is smaller than requested bytes",
    "out of memory",
    "STATUS_ALLOC_FAILED",
)


class OutOfMemory(InferenceError):
    """A run did not fit into memory."""


def failure(
    windows: Sequence[Window], deadline: float | None, error: Exception
) -> DeadlineExceeded | InferenceError:
    """Return what is raised instead of what ONNX Runtime raised.

    Args:
        windows: What was run.
        deadline: When to give up, on ``time.monotonic``'s clock; None never does.
        error: What ONNX Runtime raised.
    """
    if deadline is not None and time.monotonic() >= deadline:
        return DeadlineExceeded(TOO_LATE)
    longest = max(len(window.input_ids) for window in windows)
    message = f"ONNX Runtime failed on {len(windows)} windows of up to {longest} tokens: {error}"
    if not any(sign in str(error) for sign in _OUT_OF_MEMORY):
        return InferenceError(f"{message} (another variant, or provider='cpu', may run)")
    return OutOfMemory(f"{message} (a smaller token_budget or a higher gpu_memory_limit may mend it)")


class Halves:
    """Runs again, in halves, what did not fit into memory, and counts how often. Safe for many threads.

    A half can be too large as well: what a failed run has taken stays with ONNX Runtime's arena, in pieces of
    that run's sizes. So halves are halved, down to single windows.

    Attributes:
        count: How many batches, halves among them, were halved.
    """

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def run(
        self, windows: Sequence[Window], run: Callable[[Sequence[Window]], tuple[Logits, Logits]]
    ) -> tuple[Logits, Logits]:
        """Run the first half, then the second.

        Args:
            windows: Two or more, which did not fit together.
            run: Runs some of them.

        Returns:
            As ``Session.run`` does for all of them.

        Raises:
            OutOfMemory: A single window does not fit.
        """
        with self._lock:
            self.count += 1
        middle = len(windows) // 2
        halves = [self._fitted(half, run) for half in (windows[:middle], windows[middle:])]
        start, end = (_one_below_the_other(side) for side in zip(*halves, strict=True))
        return start, end

    def _fitted(
        self, windows: Sequence[Window], run: Callable[[Sequence[Window]], tuple[Logits, Logits]]
    ) -> tuple[Logits, Logits]:
        """Run a half, or else its halves."""
        try:
            return run(windows)
        except OutOfMemory:
            if len(windows) == 1:
                raise
        return self.run(windows, run)


def _one_below_the_other(halves: Sequence[Logits]) -> Logits:
    width = max(half.shape[1] for half in halves)
    return np.concatenate([np.pad(half, ((0, 0), (0, width - half.shape[1]))) for half in halves])

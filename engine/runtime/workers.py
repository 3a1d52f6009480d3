"""Runs under way: batches of windows side by side in threads, their logits put back beside their windows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import TIMEOUT_MAX, Lock
from typing import TYPE_CHECKING, Any, TypeVar

from fastspan.errors import Closed, DeadlineExceeded
from fastspan.runtime.deadline import TOO_LATE
from fastspan.runtime.session import Logits, Session
from fastspan.text.encoder import EncodedPair, Window

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

__all__ = ["Queued", "Runs", "Workers", "by_pair"]


@dataclass(slots=True)
class Runs:
    """Encoded pairs and the runs that were started for their windows.

    Attributes:
        pairs: The pairs.
        groups: Which windows share a run, as indexes into the windows of all pairs in turn.
        results: Start and end logits of each group in turn; taking them may mean waiting.
    """

    pairs: Sequence[EncodedPair]
    groups: Sequence[Sequence[int]]
    results: Queued | Sequence[tuple[Logits, Logits]]

    def cancel(self) -> None:
        """Drop the runs that wait for a thread; those that have begun end by themselves."""
        if isinstance(self.results, Queued):
            self.results.cancel()

    def logits(self) -> tuple[list[list[Logits]], list[list[Logits]]]:
        """Wait for every run.

        Returns:
            For each pair, for each of its windows, the start logits, and the same for the ends. *Shape:*
            ``(length,)``, float32, where ``length`` is the window's own.
        """
        lengths = [len(window.input_ids) for pair in self.pairs for window in pair.windows]
        starts: list[Any] = [None] * len(lengths)
        ends: list[Any] = [None] * len(lengths)
        for group, (start, end) in zip(self.groups, self.results, strict=True):
            for row, index in enumerate(group):
                starts[index] = start[row, : lengths[index]]
                ends[index] = end[row, : lengths[index]]
        return by_pair(self.pairs, starts), by_pair(self.pairs, ends)


class Queued:
    """Batches in a queue of threads; iterated once, it gives the logits of each in turn.

    Args:
        futures: One a batch.
        deadline: When to stop waiting for them, on ``time.monotonic``'s clock; None never does.
    """

    def __init__(self, futures: Sequence[Future[tuple[Logits, Logits]]], deadline: float | None) -> None:
        self._futures = futures
        self._deadline = deadline

    def __iter__(self) -> Iterator[tuple[Logits, Logits]]:
        """Wait for each in turn; once one has failed or was not waited for, the others are dropped.

        Raises:
            DeadlineExceeded: The deadline passed first.
            InferenceError: ONNX Runtime failed.
        """
        from concurrent.futures import TimeoutError as NotYet  # on 3.10 not the built-in TimeoutError

        try:
            for future in self._futures:
                left = None if self._deadline is None else self._deadline - time.monotonic()
                yield future.result(left if left is None else min(max(0.0, left), TIMEOUT_MAX))
        except DeadlineExceeded:
            raise
        except NotYet:
            raise DeadlineExceeded(TOO_LATE) from None
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Drop what waits for a thread."""
        for future in self._futures:
            future.cancel()


class Workers:
    """Threads that run batches side by side. A forked child, which inherits none of them, makes its own.

    Args:
        count: How many batches run at once.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._closed = False
        self._begin()

    def start(self, session: Session, batches: Iterable[Sequence[Window]], deadline: float | None) -> Queued:
        """Queue batches.

        Args:
            session: What runs them.
            batches: Windows that share a run.
            deadline: When to give up, on ``time.monotonic``'s clock; None never does.

        Returns:
            The logits of each batch in turn, as ``Session.run`` returns or raises them.

        Raises:
            Closed: ``close`` was called, or Python ends.
        """
        if os.getpid() != self._process:
            self._begin()
        with self._gate:
            # Another thread may have closed the answerer since this call began.
            if self._closed:
                raise Closed("This answerer was closed; load the bundle again.")
            try:
                futures = [self._pool.submit(session.run, batch, deadline=deadline) for batch in batches]
            except RuntimeError as error:
                raise Closed("Python is ending, and starts no more work in threads.") from error
        return Queued(futures, deadline)

    def close(self) -> None:
        """Let what is queued finish and take no more."""
        with self._gate:
            self._closed = True
        self._pool.shutdown(wait=True)

    def _begin(self) -> None:
        from concurrent.futures import ThreadPoolExecutor  # slow to import, and needed for throughput alone

        self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="fastspan")
        # All batches of a call are queued, or none; whoever closes waits for that.
        self._gate = Lock()
        self._process = os.getpid()


def by_pair(pairs: Sequence[EncodedPair], of_windows: Iterable[T]) -> list[list[T]]:
    """Split what belongs to the windows of all pairs in turn into one list a pair."""
    windows = iter(of_windows)
    return [[next(windows) for _ in pair.windows] for pair in pairs]

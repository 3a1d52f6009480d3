"""Runs under way: batches of windows side by side in threads, their logits put back beside their windows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastspan.encoding import EncodedPair, Window
from fastspan.errors import Closed
from fastspan.session import Logits, Session

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Runs", "Workers"]


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
    results: Iterable[tuple[Logits, Logits]]

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
        return _by_pair(self.pairs, starts), _by_pair(self.pairs, ends)


class Workers:
    """Threads that run batches side by side. A forked child, which inherits none of them, makes its own.

    Args:
        count: How many batches run at once.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._closed = False
        self._pool = self._make_pool()
        self._process = os.getpid()

    def start(
        self, session: Session, batches: Iterable[Sequence[Window]], deadline: float | None
    ) -> Iterator[tuple[Logits, Logits]]:
        """Queue batches.

        Args:
            session: What runs them.
            batches: Windows that share a run.
            deadline: When to give up, on ``time.monotonic``'s clock; None never does.

        Returns:
            The logits of each batch in turn, as ``Session.run`` returns or raises them. Once one has failed,
            those that wait for a thread are dropped.

        Raises:
            Closed: ``close`` was called.
        """
        if os.getpid() != self._process:
            self._pool = self._make_pool()
            self._process = os.getpid()
        try:
            futures = [self._pool.submit(session.run, batch, deadline=deadline) for batch in batches]
        except RuntimeError as error:
            # Another thread may have closed the answerer since this call began.
            if self._closed:
                raise Closed("This answerer was closed; load the bundle again.") from error
            raise
        return _results(futures)

    def close(self) -> None:
        """Let what is queued finish and take no more."""
        self._closed = True
        self._pool.shutdown(wait=True)

    def _make_pool(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor  # slow to import, and needed for throughput alone

        return ThreadPoolExecutor(self._count, thread_name_prefix="fastspan")


def _results(futures: Sequence[Future[tuple[Logits, Logits]]]) -> Iterator[tuple[Logits, Logits]]:
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def _by_pair(pairs: Sequence[EncodedPair], of_windows: Sequence[Logits]) -> list[list[Logits]]:
    windows = iter(of_windows)
    return [[next(windows) for _ in pair.windows] for pair in pairs]

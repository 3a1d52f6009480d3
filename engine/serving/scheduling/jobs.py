"""One request on its way through the model: its windows, what is left to run, and who waits for it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from fastspan.errors import Closed, DeadlineExceeded, FastSpanError, InferenceError
from fastspan.runtime.session import Logits
from fastspan.runtime.workers import by_pair
from fastspan.serving.protocols.asked import Asked, Reply, Times
from fastspan.text.encoder import EncodedPair, Window

__all__ = ["STOPPED", "Batch", "Job", "told_of"]

STOPPED = "The service was asked to stop, and this request was not finished in time: ask another one."
"""What is told who waits while the service stops."""


@dataclass(slots=True, eq=False)
class Job:
    """A request.

    Attributes:
        deadline: When nobody waits for it any more, on ``time.monotonic``'s clock.
        arrived: When its body was complete, on the same clock.
        future: The reply, or what went wrong.
        times: Where its time went.
        asked: What it asks; None: it is not parsed yet.
        pairs: Its pairs; known once they are encoded.
        windows: Their windows in turn.
        waiting: Indexes of the windows whose run has not begun.
        waiting_tokens: Tokens of those.
        unfinished: How many windows have no logits yet.
        starts: Start logits of each window that has run. *Shape:* ``(length,)``, float32.
        ends: The same for the ends.
        first_run: When its first run began; None: none has.
        expected_tokens: What its windows are thought to hold while it is not encoded.
        least_tokens: The same, and it hardly has less: texts of one size differ in their tokens.
        queued: When it was queued for the model.
        estimated: How long that was thought to take, in seconds, queue and runs together; 0: nobody knew.
        over: Whether nobody waits any more, or an outcome is there already. The queue looks at it often, and
            to ask ``future`` costs a lock.
    """

    deadline: float
    arrived: float = field(default_factory=time.monotonic)
    future: Future[Reply] = field(default_factory=Future)
    times: Times = field(default_factory=Times)
    asked: Asked | None = None
    pairs: Sequence[EncodedPair] = ()
    windows: Sequence[Window] = ()
    waiting: deque[int] = field(default_factory=deque)
    waiting_tokens: int = 0
    unfinished: int = 0
    starts: list[Logits | None] = field(default_factory=list)
    ends: list[Logits | None] = field(default_factory=list)
    first_run: float | None = None
    expected_tokens: int = 0
    least_tokens: int = 0
    queued: float = 0.0
    estimated: float = 0.0
    over: bool = False

    def encoded(self, pairs: Sequence[EncodedPair]) -> None:
        """Take what encoding gave."""
        self.pairs = pairs
        self.windows = [window for pair in pairs for window in pair.windows]
        self.waiting = deque(range(len(self.windows)))
        self.waiting_tokens = self.all_tokens
        self.unfinished = len(self.windows)
        self.starts = [None] * len(self.windows)
        self.ends = [None] * len(self.windows)

    def tokens(self, index: int) -> int:
        """Return the length of a window in tokens."""
        return len(self.windows[index].input_ids)

    @property
    def all_tokens(self) -> int:
        """Tokens of all its windows."""
        return sum(len(window.input_ids) for window in self.windows)

    @property
    def sure_tokens(self) -> int:
        """Tokens of all its windows; while they are not known, ``least_tokens``."""
        return self.all_tokens if self.windows else self.least_tokens

    def logits(self) -> tuple[list[list[Logits]], list[list[Logits]]]:
        """Return start and end logits of each pair's windows; every window has run."""
        return by_pair(self.pairs, cast("list[Logits]", self.starts)), by_pair(
            self.pairs, cast("list[Logits]", self.ends)
        )

    def begins(self, indexes: set[int]) -> None:
        """Take windows whose run begins out of those that wait."""
        self.waiting = deque(index for index in self.waiting if index not in indexes)
        self.waiting_tokens -= sum(self.tokens(index) for index in indexes)

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits that it went wrong; what waits for a run is dropped."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)
        self.over = True

    def succeed(self, reply: Reply) -> None:
        """Give whoever waits the reply."""
        with suppress(InvalidStateError):
            self.future.set_result(reply)
        self.over = True

    def cancel(self) -> None:
        """Nobody waits any more: windows whose run has not begun never run."""
        self.future.cancel()
        self.over = True


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Windows that share a run.

    Attributes:
        windows: Requests and the indexes of their windows.
        tokens: Of all windows together.
        began: When it was taken out of the queue.
    """

    windows: list[tuple[Job, int]]
    tokens: int
    began: float


def told_of(error: BaseException, job: Job, ended: float) -> FastSpanError:
    """Return what one who waited for a run that failed is told."""
    if isinstance(error, DeadlineExceeded) and ended < job.deadline:
        # The run ended not for its requests' deadlines, but for the service's.
        return Closed(STOPPED)
    if isinstance(error, FastSpanError):
        return error
    told = InferenceError(f"A run failed: {error}")
    told.__cause__ = error
    return told

"""Who is let in: an estimate of the wait, from what runs now and how fast; slots; and the memory in use.

A request that would come too late is refused at once, which costs nothing, instead of when its time is over,
which costs its share of the model.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastspan.errors import InputError, Overloaded
from fastspan.serving.scheduling.jobs import Job
from fastspan.serving.scheduling.pace import Foresight, Pace

__all__ = ["MemoryLimit", "Slots", "Waiting", "admit"]

_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits before the model.

    Attributes:
        fresh: Tokens of requests none of whose windows has run.
        begun: Tokens that wait of requests that are under way.
        running: What is left of the tokens of the runs under way, by estimate.
        requests: Requests with windows that wait.
        run_tokens: The most tokens that share a run.
        free: Runs that could begin at once.
    """

    fresh: int
    begun: int
    running: int
    requests: int
    run_tokens: int
    free: int

    @property
    def nothing(self) -> bool:
        """Whether a request that comes now runs at once."""
        return self.free > 0 and not self.requests

    @property
    def before_next(self) -> int:
        """Tokens that run before a request that comes now: the two lines take turns."""
        return self.running + self.fresh + min(self.begun, self.fresh + self.run_tokens)

    @property
    def in_all(self) -> int:
        """Tokens that are to run."""
        return self.running + self.fresh + self.begun


def admit(pace: Pace, foresight: Foresight, waiting: Waiting, job: Job, longest_wait: float) -> float:
    """Refuse a request that would come too late; where a run may begin at once, it is always tried.

    Args:
        pace: How long runs take.
        foresight: How far such estimates were off.
        waiting: What runs before it.
        job: The request.
        longest_wait: The longest that it may have to wait for its first run, in seconds.

    Returns:
        In how many seconds it has run, as ``pace`` alone has it.

    Raises:
        Overloaded: With an estimate of when it would be let in.
    """
    own = job.sure_tokens
    wait = 0.0 if waiting.nothing else pace.seconds(waiting.before_next)
    if len(job.windows) == 1 or own <= waiting.run_tokens:
        done = wait + pace.run_seconds(own)
    else:
        # Threads that share runs, in whatever order, are through after their share of them and one run more.
        done = pace.seconds(waiting.in_all + own) + pace.run_seconds(waiting.run_tokens)
    if waiting.nothing:
        return done
    left = job.deadline - time.monotonic()
    # A run that has just begun is no wait worth refusing for: there are as many as threads.
    if wait > longest_wait and waiting.requests:
        raise Overloaded(
            f"{waiting.requests} requests wait, about {wait:.2f} seconds of work, and the limit is "
            f"{longest_wait:g}: ask again later.",
            retry_after=wait - longest_wait,
        )
    safe = foresight.safe(done, pace.run_seconds(waiting.run_tokens))
    if safe > left:
        raise Overloaded(
            f"The answer would take about {safe:.2f} seconds, and {max(left, 0.0):.2f} are left: ask "
            "again later, or allow more time.",
            retry_after=safe - left,
        )
    return done


class Slots:
    """Counts the requests whose body is in and whose answer is not out.

    Args:
        limit: The most at once.
        observe: Told of the number whenever it changes.
    """

    def __init__(self, limit: int, observe: Callable[[int], None] = lambda taken: None) -> None:
        self._limit = limit
        self._observe = observe
        self.taken = 0

    def one(self, retry_after: Callable[[], float]) -> Slots:
        """Take a slot; a ``with`` statement gives it back in the end.

        Args:
            retry_after: Says after how many seconds one who is refused may try again.

        Raises:
            Overloaded: All are taken.
        """
        if self.taken >= self._limit:
            raise Overloaded(
                f"{self.taken} requests are in flight, which is the limit: ask again in a moment, or "
                "start the service with a higher --max-concurrent-requests.",
                retry_after=retry_after(),
            )
        self.taken += 1
        self._observe(self.taken)
        return self

    def __enter__(self) -> None:
        """It is taken already."""

    def __exit__(self, *_: object) -> None:
        """Give a slot back."""
        self.taken -= 1
        self._observe(self.taken)


class MemoryLimit:
    """Refuses requests while the process holds more memory than it should.

    Args:
        limit: Resident memory in bytes; 0: no limit.

    Raises:
        InputError: This system does not tell a process what memory it holds.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._read_at = -math.inf
        self._resident = 0
        self._lock = threading.Lock()
        if limit and not _STATM.exists():
            raise InputError(f"--max-memory needs {_STATM}, which only Linux has: leave it out.")

    def check(self) -> None:
        """Refuse a request where memory is short.

        Raises:
            Overloaded: The process holds more than the limit.
        """
        if not self._limit:
            return
        with self._lock:
            now = time.monotonic()
            if now - self._read_at > 0.05:
                self._read_at, self._resident = now, resident_bytes()
        if self._resident > self._limit:
            raise Overloaded(
                f"The service holds {self._resident:,} bytes of memory, and --max-memory is {self._limit:,}: "
                "ask again later.",
                retry_after=1.0,
                reason="memory",
            )


def resident_bytes() -> int:
    """Return the memory that this process holds, in bytes; Linux alone tells."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

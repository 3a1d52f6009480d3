"""Whose turn it is: two lines of requests before the model.

One line is of requests none of whose windows has run, in the order they came; the other of those that are
under way. They take turns, each request one slice a turn. So a long request delays a short one by one run,
and is never starved. One under way that would miss its deadline by waiting for its turn goes first: what it
has had of the model would be for nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from fastspan.errors import DeadlineExceeded, Overloaded
from fastspan.runtime.deadline import TOO_LATE
from fastspan.serving.scheduling.jobs import Job
from fastspan.serving.scheduling.pace import Foresight, Pace

__all__ = ["TOO_LONG", "Lines"]

TOO_LONG = 2
"""How many times the longest wait a request waits until it is refused after all.

Late refusals help nobody: who was let in stays, unless the estimate was wrong by as much as this."""

# A request under way is urgent once it has no time to wait for so many more runs like its own next one.
_TURNS = 2


class Lines:
    """Requests that wait for a run. Not for several threads at once: whoever has it holds a lock.

    Args:
        pace: How long runs take.
        foresight: Told how long requests took.
        longest_wait: The longest that a request may have to wait for its first run, by estimate, in seconds.
        run_tokens: The most tokens that share a run.
    """

    def __init__(self, pace: Pace, foresight: Foresight, longest_wait: float, run_tokens: int) -> None:
        self._pace = pace
        self._foresight = foresight
        self._longest_wait = longest_wait
        self._run_tokens = run_tokens
        self._fresh: deque[Job] = deque()
        self._begun: deque[Job] = deque()
        self._fresh_turn = True

    def __bool__(self) -> bool:
        """Whether any request waits."""
        return bool(self._fresh or self._begun)

    def __iter__(self) -> Iterator[Job]:
        yield from self._fresh
        yield from self._begun

    def add(self, job: Job) -> None:
        """Let a request wait for its first run."""
        self._fresh.append(job)

    def put_back(self, job: Job) -> None:
        """Let a request wait for its next run."""
        self._begun.append(job)

    def clear(self) -> None:
        """Let nobody wait any more."""
        self._fresh.clear()
        self._begun.clear()

    def waiting(self) -> tuple[int, int, int]:
        """Say how much waits whose answer somebody waits for.

        Returns:
            The tokens of requests none of whose windows has run, those of the others, and how many there are
            of both.
        """
        tokens, requests = [0, 0], 0
        for number, line in enumerate((self._fresh, self._begun)):
            for job in line:
                if job.waiting and not job.over:
                    tokens[number] += job.waiting_tokens
                    requests += 1
        return tokens[0], tokens[1], requests

    def learn_from(self, job: Job, moment: float) -> None:
        """Take down how long a request took that has run, or whose time was over first."""
        self._foresight.took(job.estimated, moment - job.queued, self._pace.run_seconds(self._run_tokens))

    def next(self) -> Job | None:
        """Take the request whose turn it is out of its line; None: nobody waits."""
        if (urgent := self._urgent()) is not None:
            self._begun.remove(urgent)
            return urgent
        lines = (self._fresh, self._begun) if self._fresh_turn else (self._begun, self._fresh)
        for line in lines:
            while line:
                job = line.popleft()
                if self._still_wanted(job):
                    self._fresh_turn = line is self._begun
                    return job
        return None

    def company(self, seed: Job, most: float) -> Iterator[tuple[Job, int]]:
        """The next windows that could share a run, the seed's own first: about twice ``most`` tokens."""
        tokens = 0
        for job in (seed, *self):
            if job.over:
                continue
            for index in job.waiting:
                if tokens >= 2 * most:
                    return
                tokens += job.tokens(index)
                yield job, index

    def _urgent(self) -> Job | None:
        """Of requests under way that are late unless they run now, the one that is due first.

        One that cannot be done in time any more is none of them.
        """
        now = time.monotonic()
        found = []
        for job in self._begun:
            if job.over or not job.waiting:
                continue
            needed = self._pace.seconds(job.waiting_tokens)
            turns = _TURNS * self._pace.run_seconds(job.tokens(job.waiting[0]))
            if needed < job.deadline - now < needed + turns:
                found.append(job)
        return min(found, key=lambda job: job.deadline, default=None)

    def _still_wanted(self, job: Job) -> bool:
        if not job.waiting:
            return False
        now = time.monotonic()
        if now >= job.deadline:
            # It takes longer than was estimated; how much longer is not known.
            self.learn_from(job, now)
            job.fail(DeadlineExceeded(TOO_LATE))
        elif job.first_run is None and now - job.arrived > TOO_LONG * self._longest_wait:
            job.fail(
                Overloaded(
                    f"This request waited {now - job.arrived:.2f} seconds for the model, and the "
                    f"limit is {TOO_LONG * self._longest_wait:g}: ask again later.",
                    retry_after=self._longest_wait,
                )
            )
        return not job.over

"""The queue before the model: windows of several requests share a run, and no request holds up the others.

Threads take a batch whenever they are free, so a lone request never waits for company. The thread that
submits it may run its first batch itself: to wake another costs time. A batch is planned around one window,
the next in turn; windows of other requests join it where ``Stages.share`` says that this pays, up to the
tokens of one run. Two lines take turns: requests none of whose windows has run, in the order they came, and
requests that are under way, each one slice a turn. So a long request delays a short one by one run, and is
never starved.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

from fastspan.errors import Closed, DeadlineExceeded, Overloaded
from fastspan.runtime.deadline import TOO_LATE
from fastspan.runtime.session import Logits
from fastspan.serving.scheduling.admission import Pace, Waiting
from fastspan.serving.scheduling.jobs import STOPPED, Job, told_of
from fastspan.stages.pairs import Stages

__all__ = ["TOO_LONG", "Batcher"]

TOO_LONG = 2
"""How many times the longest wait a request waits until it is refused after all.

Late refusals help nobody: who was let in stays, unless the estimate was wrong by as much as this."""

Observe = Callable[[Sequence[int], float], None]
"""Told of a run: the tokens of each of its windows, and the seconds it took."""


class Batcher:
    """Threads that run windows of many requests.

    Args:
        stages: What plans and runs them.
        count: How many batches run at once, those in the threads of ``submit``'s callers included.
        finished: Called with a request whose logits are all there, in the thread that ran the last.
        longest_wait: The longest that a request may have to wait for its first run, by estimate, in seconds.
            One that was let in and waits ``TOO_LONG`` times as long is refused after all.
        observe: Told of every run.
        failed: Called with the number of runs in a row that have failed, after each that does.
    """

    def __init__(
        self,
        stages: Stages,
        count: int,
        finished: Callable[[Job], None],
        *,
        longest_wait: float,
        observe: Observe = lambda tokens, seconds: None,
        failed: Callable[[int], None] = lambda times: None,
    ) -> None:
        self._stages = stages
        self._count = count
        self._finished = finished
        self._longest_wait = longest_wait
        self._observe = observe
        self._failed = failed
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        # Whoever waits until nothing is left must not be woken by work, nor the threads by each other.
        self._idle = threading.Condition(lock)
        self._fresh: deque[Job] = deque()
        self._begun: deque[Job] = deque()
        self._fresh_turn = True
        self._runs = 0
        self._running = 0
        self._in_runs: Counter[Job] = Counter()
        self._failures = 0
        self._closed = False
        self._stops_at = float("inf")
        self.pace = Pace(count)
        self._threads = [
            threading.Thread(target=self._work, name=f"fastspan-run-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, *, run: bool = False) -> None:
        """Queue an encoded request; with ``run``, run a batch in this thread where fewer run than may.

        Raises:
            Overloaded: Its deadline cannot be met, or it would wait too long.
            Closed: The service is shutting down.
        """
        with self._changed:
            if self._closed:
                raise Closed(STOPPED)
            self.pace.admit(self._waiting(), job, self._longest_wait)
            self._fresh.append(job)
            batch = self._take() if run else []
            if not self.idle:
                self._changed.notify()
        if batch:
            self._run(batch)

    @property
    def idle(self) -> bool:
        """Whether no request waits for a run."""
        return not self._fresh and not self._begun

    def waiting(self) -> Waiting:
        """Say how much waits and runs."""
        with self._changed:
            return self._waiting()

    def stop_at(self, moment: float) -> None:
        """Let no run go on after a moment, on ``time.monotonic``'s clock."""
        self._stops_at = moment

    def close(self, *, wait: float = 0.0) -> None:
        """Refuse what waits, what runs and what comes, and let the threads end after the runs they are in.

        Args:
            wait: For so many seconds at most, return when they have ended.
        """
        with self._changed:
            self._closed = True
            left = [*self._fresh, *self._begun, *self._in_runs]
            self._fresh.clear()
            self._begun.clear()
            self._changed.notify_all()
        for job in left:
            job.fail(Closed(STOPPED))
        until = time.monotonic() + wait
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def drain(self) -> None:
        """Run what is queued, then close."""
        with self._changed:
            self._idle.wait_for(lambda: not self._fresh and not self._begun and not self._in_runs)
        self.close()

    def _waiting(self) -> Waiting:
        def tokens(jobs: deque[Job]) -> int:
            return sum(job.waiting_tokens for job in jobs if not job.over)

        return Waiting(
            fresh=tokens(self._fresh),
            begun=tokens(self._begun),
            running=self._running,
            requests=sum(not job.over and bool(job.waiting) for job in (*self._fresh, *self._begun)),
            run_tokens=self._stages.run_tokens,
        )

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (batch := self._take()):
                    if self._closed:
                        return
                    self._changed.wait()
            self._run(batch)

    def _take(self) -> list[tuple[Job, int]]:
        """Take the next batch where fewer run than may; the lock is held."""
        batch = self._next_batch() if self._runs < self._count else []
        self._runs += bool(batch)
        if not batch:
            self._idle.notify_all()
        return batch

    def _next_batch(self) -> list[tuple[Job, int]]:
        """Take the next windows that share a run from the queue; none where nothing waits."""
        seed = self._next_job()
        if seed is None:
            return []
        found = list(self._candidates(seed))
        groups = self._stages.share([job.tokens(index) for job, index in found])
        # The seed's first window stands first; whatever shares its run comes along.
        group = next(group for group in groups if 0 in group)
        batch = [found[position] for position in sorted(group)]
        taken: dict[Job, set[int]] = {}
        for job, index in batch:
            taken.setdefault(job, set()).add(index)
        now = time.monotonic()
        for job, indexes in taken.items():
            job.begins(indexes)
            self._in_runs[job] += 1
            if job.first_run is None:
                job.first_run = now
                job.times.queue = now - job.arrived - job.times.encode
        if seed.waiting:
            self._begun.append(seed)
        self._running += sum(job.tokens(index) for job, index in batch)
        return batch

    def _next_job(self) -> Job | None:
        """Take the request whose turn it is out of its line."""
        lines = (self._fresh, self._begun) if self._fresh_turn else (self._begun, self._fresh)
        for line in lines:
            while line:
                job = line.popleft()
                if self._still_wanted(job):
                    self._fresh_turn = line is self._begun
                    return job
        return None

    def _still_wanted(self, job: Job) -> bool:
        if job.over or not job.waiting:
            return False
        now = time.monotonic()
        if now >= job.deadline:
            job.fail(DeadlineExceeded(TOO_LATE))
            return False
        if job.first_run is None and now - job.arrived > TOO_LONG * self._longest_wait:
            job.fail(
                Overloaded(
                    f"This request waited {now - job.arrived:.2f} seconds for the model, and the "
                    f"limit is {TOO_LONG * self._longest_wait:g}: ask again later.",
                    retry_after=self._longest_wait,
                )
            )
            return False
        return True

    def _candidates(self, seed: Job) -> Iterator[tuple[Job, int]]:
        """The next windows that could share a run, the seed's own first: about two runs' worth."""
        enough = 2 * self._stages.run_tokens
        tokens = 0
        for job in (seed, *self._fresh, *self._begun):
            if job.over:
                continue
            for index in job.waiting:
                if tokens >= enough:
                    return
                tokens += job.tokens(index)
                yield job, index

    def _run(self, batch: list[tuple[Job, int]]) -> None:
        windows = [job.windows[index] for job, index in batch]
        tokens = [len(window.input_ids) for window in windows]
        jobs = list(dict.fromkeys(job for job, _ in batch))
        # It stops in mid-run once nobody waits for any of it.
        deadline = min(max(job.deadline for job in jobs), self._stops_at)
        began = time.monotonic()
        error: BaseException | None = None
        try:
            start, end = self._stages.loaded.session.run(windows, deadline=deadline)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            error = raised
        ended = time.monotonic()
        with self._changed:
            self._runs -= 1
            self._running -= sum(tokens)
            if not self.idle:
                self._changed.notify()
            if error is None:
                self._failures = 0
                self.pace.measured(sum(tokens), ended - began)
            elif not isinstance(error, DeadlineExceeded):
                self._failures += 1
            failures = self._failures
        if error is None:
            self._observe(tokens, ended - began)
            self._deliver(batch, start, end, began, ended)
        else:
            # Before its requests hear of it: who then asks whether the service is ready is told the truth.
            if not isinstance(error, DeadlineExceeded):
                self._failed(failures)
            for job in jobs:
                job.fail(told_of(error, job, ended))
        with self._changed:
            self._in_runs -= Counter(jobs)
            self._idle.notify_all()

    def _deliver(
        self, batch: list[tuple[Job, int]], start: Logits, end: Logits, began: float, ended: float
    ) -> None:
        """Give each request the logits of its windows, and pass on those that have all."""
        for row, (job, index) in enumerate(batch):
            job.starts[index] = start[row, : job.tokens(index)]
            job.ends[index] = end[row, : job.tokens(index)]
        complete = []
        with self._changed:
            for job, _ in batch:
                job.unfinished -= 1
                if not job.unfinished:
                    complete.append(job)
        for job in complete:
            if not job.over:
                job.times.run = ended - (job.first_run or began)
                self._finished(job)

"""The queue before the model: windows of several requests share a run, and no request holds up the others.

Threads take a batch whenever they are free, so a lone request never waits for company. The thread that
submits it may run its first batch itself: to wake another costs time. A batch is planned around one window,
the next in turn (``lines.py``); windows of other requests join it where ``Stages.share`` says that this may
pay, up to the tokens from which on company makes runs no faster on this machine.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from fastspan.errors import Closed, DeadlineExceeded
from fastspan.runtime.session import Logits
from fastspan.serving.scheduling.admission import Waiting, admit
from fastspan.serving.scheduling.giving_way import give_way
from fastspan.serving.scheduling.jobs import STOPPED, Batch, Job, told_of
from fastspan.serving.scheduling.lines import Lines
from fastspan.serving.scheduling.pace import Foresight, Pace
from fastspan.stages.pairs import Stages

__all__ = ["Batcher"]

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
        alone: How many times as many threads a run has that begins while no other is under way. Its time
            counts as many times: so long it would take beside others.
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
        alone: int = 1,
        observe: Observe = lambda tokens, seconds: None,
        failed: Callable[[int], None] = lambda times: None,
    ) -> None:
        self._stages = stages
        self._count = count
        self._finished = finished
        self._longest_wait = longest_wait
        self._alone = alone
        self._observe = observe
        self._failed = failed
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        # Whoever waits until nothing is left must not be woken by work, nor the threads by each other.
        self._idle = threading.Condition(lock)
        self._coming: set[Job] = set()
        self._under_way: set[Batch] = set()
        self._in_runs: Counter[Job] = Counter()
        self._failures = 0
        self._closed = False
        self._stops_at = float("inf")
        self.pace = Pace(count)
        self._foresight = Foresight()
        self._lines = Lines(self.pace, self._foresight, longest_wait, stages.run_tokens)
        self._threads = [
            threading.Thread(target=self._work, name=f"fastspan-run-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def expect(self, job: Job) -> None:
        """Let in a request that is not encoded yet; those that come after it wait for it too.

        It is refused for what is before it alone, which needs none of the work of encoding it.

        Raises:
            Overloaded: It would have to wait too long.
        """
        with self._changed:
            if self._coming or self._lines or len(self._under_way) >= self._count:
                coming = [other for other in self._coming if not other.over]
                admit(self.pace, self._foresight, self._waiting(coming), job, self._longest_wait)
            # Else nothing is before it, and it is always tried.
            self._coming.add(job)

    def forget(self, job: Job) -> None:
        """Expect a request no more, where it was not submitted."""
        with self._changed:
            self._coming.discard(job)

    def submit(self, job: Job, *, run: bool = False) -> None:
        """Queue an encoded request; with ``run``, run a batch in this thread where fewer run than may.

        Raises:
            Overloaded: Its deadline cannot be met, or it would wait too long.
            Closed: The service is shutting down.
        """
        with self._changed:
            if self._closed:
                raise Closed(STOPPED)
            self._coming.discard(job)
            job.queued = time.monotonic()
            job.estimated = admit(self.pace, self._foresight, self._waiting(), job, self._longest_wait)
            self._lines.add(job)
            batch = self._take() if run else None
            if not self.idle:
                self._changed.notify()
        if batch is not None:
            self._run(batch)

    @property
    def idle(self) -> bool:
        """Whether no request waits for a run."""
        return not self._lines

    def waiting(self) -> Waiting:
        """Say how much waits and runs."""
        with self._changed:
            return self._waiting()

    def requests(self) -> int:
        """Return how many requests wait whose answer somebody waits for."""
        with self._changed:
            return self._lines.waiting()[2]

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
            left = [*self._lines, *self._in_runs]
            self._lines.clear()
            self._changed.notify_all()
        for job in left:
            job.fail(Closed(STOPPED))
        until = time.monotonic() + wait
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def drain(self) -> None:
        """Run what is queued, then close."""
        with self._changed:
            self._idle.wait_for(lambda: not self._lines and not self._in_runs)
        self.close()

    def _waiting(self, coming: Sequence[Job] = ()) -> Waiting:
        now = time.monotonic()
        fresh, begun, requests = self._lines.waiting()
        return Waiting(
            fresh=fresh + sum(job.expected_tokens for job in coming),
            begun=begun,
            running=sum(self._left(batch, now) for batch in self._under_way),
            requests=requests + len(coming),
            run_tokens=self._stages.run_tokens,
            free=self._count - len(self._under_way),
        )

    def _left(self, batch: Batch, now: float) -> int:
        """Estimate how many tokens of a run have not run."""
        whole = self.pace.run_seconds(batch.tokens)
        return round(batch.tokens * max(0.0, 1 - (now - batch.began) / whole)) if whole else batch.tokens

    def _work(self) -> None:
        give_way()
        while True:
            with self._changed:
                while (batch := self._take()) is None:
                    if self._closed:
                        return
                    self._changed.wait()
            self._run(batch)

    def _take(self) -> Batch | None:
        """Take the next batch where fewer run than may; the lock is held."""
        batch = self._next_batch() if len(self._under_way) < self._count else None
        if batch is None:
            self._idle.notify_all()
        else:
            self._under_way.add(batch)
        return batch

    def _next_batch(self) -> Batch | None:
        """Take the next windows that share a run from the queue; None where nothing waits."""
        seed = self._lines.next()
        if seed is None:
            return None
        now = time.monotonic()
        shared = self._shared(seed, now)
        taken: dict[Job, set[int]] = {}
        for job, index in shared:
            taken.setdefault(job, set()).add(index)
        for job, indexes in taken.items():
            job.begins(indexes)
            self._in_runs[job] += 1
            if job.first_run is None:
                job.first_run = now
                job.times.queue = now - job.arrived - job.times.encode
        if seed.waiting:
            self._lines.put_back(seed)
        return Batch(windows=shared, tokens=sum(job.tokens(index) for job, index in shared), began=now)

    def _shared(self, seed: Job, now: float) -> list[tuple[Job, int]]:
        """Windows that run together: the first of ``seed``, and company as far as it pays.

        All of them wait until the last has run. So there is no more company than makes runs faster, nor so
        much that ``seed`` would miss its deadline for it.
        """
        in_time = self.pace.tokens_within(seed.deadline - now)
        most = min(self._stages.run_tokens, self.pace.enough_tokens(), in_time)
        first = seed.waiting[0]
        if seed.tokens(first) >= most or (len(seed.waiting) == 1 and not self._lines):
            return [(seed, first)]
        found = list(self._lines.company(seed, most))
        groups = self._stages.share([job.tokens(index) for job, index in found], round(most))
        # The seed's first window stands first; whatever shares its run comes along.
        group = next(group for group in groups if 0 in group)
        return [found[position] for position in sorted(group)]

    def _run(self, batch: Batch) -> None:
        windows = [job.windows[index] for job, index in batch.windows]
        tokens = [len(window.input_ids) for window in windows]
        jobs = list(dict.fromkeys(job for job, _ in batch.windows))
        # It stops in mid-run once nobody waits for any of it.
        deadline = min(max(job.deadline for job in jobs), self._stops_at)
        share = self._alone if len(self._under_way) == 1 else 1
        began = time.monotonic()
        error: BaseException | None = None
        try:
            start, end = self._stages.loaded.session.run(windows, deadline=deadline)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            error = raised
        ended = time.monotonic()
        with self._changed:
            self._under_way.discard(batch)
            if not self.idle:
                self._changed.notify()
            if error is None:
                self._failures = 0
            elif not isinstance(error, DeadlineExceeded):
                self._failures += 1
            failures = self._failures
        if error is None:
            self._observe(tokens, ended - began)
            self._deliver(batch.windows, start, end, began, ended)
            # After the answers, which need not wait for it.
            self.pace.measured(tokens, share * (ended - began))
        else:
            # Before its requests hear of it: who then asks whether the service is ready is told the truth.
            if not isinstance(error, DeadlineExceeded):
                self._failed(failures)
            for job in jobs:
                job.fail(told_of(error, job, ended))
        with self._changed:
            if isinstance(error, DeadlineExceeded):
                for job in jobs:
                    self._lines.learn_from(job, ended)
            for job in jobs:
                self._in_runs[job] -= 1
                if not self._in_runs[job]:
                    del self._in_runs[job]
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
                    self._lines.learn_from(job, ended)
        for job in complete:
            if not job.over:
                job.times.run = ended - (job.first_run or began)
                self._finished(job)

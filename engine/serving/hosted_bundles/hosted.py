"""One bundle as the service runs it: texts to windows in threads, the queue, the runs, and decoding apart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from typing import Protocol as Shape

from fastspan.errors import Closed, DeadlineExceeded, InputError, Overloaded, TooManyWindows
from fastspan.options import AnswerOptions
from fastspan.results import Info
from fastspan.runtime.deadline import TOO_LATE
from fastspan.serving.hosted_bundles.recent_contexts import RecentContexts
from fastspan.serving.observing.metrics import Metrics
from fastspan.serving.protocols.asked import Asked, Incoming, Protocol, Result
from fastspan.serving.scheduling.admission import Waiting
from fastspan.serving.scheduling.dynamic_batching import Batcher
from fastspan.serving.scheduling.giving_way import give_way
from fastspan.serving.scheduling.jobs import STOPPED, Job
from fastspan.serving.scheduling.limits import Limits
from fastspan.serving.scheduling.lines import TOO_LONG
from fastspan.serving.scheduling.pace import Density
from fastspan.stages.pairs import Stages
from fastspan.text.encoder import EncodedPair

__all__ = ["Answerer", "Hosted", "TooManyPairsError"]

# The most windows that a thread decodes which has run them.
_DECODED_AT_ONCE = 8

_OPTIONS_KEPT = 64

# Runs before the first request.
_WARM_RUNS = 3

Answered = Callable[[Job, Sequence[Result]], None]
"""Told of every request that was answered, in the thread that decoded it."""


class Answerer(Shape):
    """What the service needs of a ``QuestionAnswerer``."""

    @property
    def stages(self) -> Stages:
        """As ``QuestionAnswerer.stages``."""

    def info(self) -> Info:
        """As ``QuestionAnswerer.info``."""

    def close(self) -> None:
        """As ``QuestionAnswerer.close``."""


class TooManyPairsError(TooManyWindows):
    """A request holds more pairs than the service takes at once."""


class Hosted:
    """A bundle, its threads and its queue.

    Args:
        name: What requests call it.
        answerer: The loaded bundle; whoever loaded it closes it.
        limits: What it takes on.
        metrics: Where runs and answers are counted.
        failed: Called with the number of runs in a row that failed.
        answered: Told of every request that was answered.
    """

    def __init__(
        self,
        name: str,
        answerer: Answerer,
        limits: Limits,
        metrics: Metrics,
        *,
        failed: Callable[[int], None] = lambda times: None,
        answered: Answered = lambda job, found: None,
    ) -> None:
        self.name = name
        self.answerer = answerer
        self._limits = limits
        self._metrics = metrics
        self._answered = answered
        self._stopping = False
        self._density = Density()
        self._contexts = RecentContexts()
        self._info = answerer.info()
        # Most requests ask alike, and to look options up takes less than to check each anew.
        self._options = lru_cache(_OPTIONS_KEPT)(self._options_of)
        # For latency, one run has all threads to itself: side by side, runs would only slow each other down.
        workers = self._info.workers
        self._alone = answerer.stages.loaded.session.settings.times_as_many_alone
        self._batcher = Batcher(
            answerer.stages,
            workers,
            self._decode,
            longest_wait=limits.wait_ms / 1000,
            alone=self._alone,
            observe=self._observe,
            failed=failed,
        )
        # As many of its threads may be in a run.
        self._encoding = ThreadPoolExecutor(
            workers + max(2, workers), thread_name_prefix="fastspan-encode", initializer=give_way
        )
        self._decoding = ThreadPoolExecutor(max(2, workers), thread_name_prefix="fastspan-decode")

    def info(self) -> Info:
        """Say what is loaded, why, and what it runs on."""
        return self.answerer.info()

    def begin(self) -> None:
        """Answer under its name from now on: the metrics tell of this bundle."""
        loaded = self.answerer.stages.loaded
        calibrated = loaded.bundle.manifest.calibration(loaded.options.domain).confidence
        tenths = None if calibrated is None else calibrated.tenths
        self._metrics.watch(self.name, self._batcher.requests, tenths)

    def waiting(self) -> Waiting:
        """Say how much waits and runs."""
        return self._batcher.waiting()

    def retry_after(self) -> float:
        """Estimate in how many seconds what is queued now will have run."""
        return self._batcher.pace.seconds(self._batcher.waiting().in_all)

    def start(self, job: Job, protocol: Protocol, incoming: Incoming) -> None:
        """Begin with a request; ``job.future`` gets the reply or the error.

        Raises:
            Overloaded: It would have to wait too long, whatever it costs.
            Closed: The service is shutting down.
        """
        job.expected_tokens, job.least_tokens = self._density.tokens(len(incoming.body))
        self._batcher.expect(job)
        try:
            begun = self._encoding.submit(self._encode, job, protocol, incoming)
        except RuntimeError as error:
            self._batcher.forget(job)
            raise Closed(STOPPED) from error
        begun.add_done_callback(lambda task: job.fail(Closed(STOPPED)) if task.cancelled() else None)

    def warm_up(self) -> None:
        """Run a window a few times, so that the first request finds the model ready and its pace known.

        The fastest run counts: the first makes what later ones find, and what else the machine does while a
        service starts says nothing of how long requests will take.
        """
        stages = self.answerer.stages
        options = stages.options(None, {})
        (pair,) = stages.encode([("Who wrote it?", "Ada wrote it. " * 30)], options)
        windows = pair.windows[:1]
        taken = []
        for _ in range(_WARM_RUNS):
            began = time.monotonic()
            stages.loaded.session.run(windows)
            taken.append(time.monotonic() - began)
        self._batcher.pace.begin_with(len(windows[0].input_ids), self._alone * min(taken))

    def stop_at(self, moment: float) -> None:
        """Let no run go on after a moment, on ``time.monotonic``'s clock."""
        self._batcher.stop_at(moment)

    def close(self, *, wait: float = 0.0) -> None:
        """Refuse what waits and what comes; wait so many seconds at most for the runs under way."""
        self._stopping = True
        self._encoding.shutdown(wait=False, cancel_futures=True)
        self._batcher.close(wait=wait)
        self._decoding.shutdown(wait=False)

    def retire(self, then: Callable[[], None]) -> None:
        """Answer what was taken on, in a thread; then close, and call ``then``."""

        def work() -> None:
            self._encoding.shutdown(wait=True)
            self._batcher.drain()
            self._decoding.shutdown(wait=True)
            then()

        threading.Thread(target=work, name="fastspan-retire", daemon=True).start()

    def _encode(self, job: Job, protocol: Protocol, incoming: Incoming) -> None:
        try:
            self._check(job)
            asked = job.asked = protocol(incoming, self._info)
            try:
                pairs = self._encoded(job, asked)
            except InputError as error:
                # Of the same class, which decides on the response's status.
                raise type(error)(asked.rename(str(error)), index=error.index) from error
            job.encoded(pairs)
            job.times.encode = time.monotonic() - job.arrived
            if not pairs:
                # Of no passages there is a reading all the same.
                self._decode(job)
                return
            self._density.found(job.all_tokens, len(incoming.body))
            self._batcher.submit(job, run=True)
        except BaseException as error:  # noqa: BLE001 - whatever it is, whoever waits must hear of it
            job.fail(error)
        finally:
            self._batcher.forget(job)

    def _encoded(self, job: Job, asked: Asked) -> list[EncodedPair]:
        """Encode pair by pair, so that the windows of all are counted before they are made."""
        if len(asked.pairs) > self._limits.pairs:
            raise TooManyPairsError(
                f"The request holds {len(asked.pairs)} pairs, and --max-pairs is {self._limits.pairs}: send "
                "several requests."
            )
        stages = self.answerer.stages
        found: list[EncodedPair] = []
        left = self._limits.windows
        together_own = asked.options.max_windows if asked.decode is not None else None
        if together_own is not None:
            left = min(left, together_own)
        alone = len(asked.pairs) == 1
        together = f"All pairs of a request together may make {self._limits.windows}."
        for position, texts in enumerate(asked.pairs):
            if left < 1:
                raise TooManyWindows(f"There are no windows left for pair {position}. {together}")
            own = None if asked.decode is not None else asked.options.max_windows
            options = self._options(asked.options, left if own is None else min(own, left))
            try:
                found += stages.encode(
                    [texts],
                    options,
                    None if alone else position,
                    self._contexts.get(texts[1]) or (found[-1] if found else None),
                    between=lambda: self._check(job),
                )
                self._contexts.keep(found[-1])
            except TooManyWindows as error:
                if options.max_windows == own:
                    raise
                beside = "" if alone else f" {together}"
                raise TooManyWindows(
                    f"{error} The service's own limit is its --max-windows.{beside}"
                ) from error
            left -= len(found[-1].windows)
        return found

    def _options_of(self, asked: AnswerOptions, max_windows: int | None) -> AnswerOptions:
        """Return complete options, with so many windows at most."""
        return replace(self.answerer.stages.options(asked, {}), max_windows=max_windows)

    def _check(self, job: Job) -> None:
        """Refuse to go on with what nobody waits for any more."""
        if self._stopping or job.over:
            raise Closed(STOPPED)
        now = time.monotonic()
        if now >= job.deadline:
            raise DeadlineExceeded(TOO_LATE)
        longest = TOO_LONG * self._limits.wait_ms / 1000
        if job.asked is None and now - job.arrived > longest:
            raise Overloaded(
                f"This request waited {now - job.arrived:.2f} seconds before it was looked at, and the limit "
                f"is {longest:g}: ask again later.",
                retry_after=self.retry_after(),
            )

    def _observe(self, tokens: Sequence[int], seconds: float) -> None:
        """Take a run into the metrics."""
        self._metrics.observe_run(self.name, tokens, self._batcher.pace.tokens_per_second or 0.0)

    def _decode(self, job: Job) -> None:
        # To wake another thread costs more than a few windows do; it pays where this one has a run to begin.
        if self._batcher.idle and len(job.windows) <= _DECODED_AT_ONCE:
            self._decoded(job)
            return
        try:
            self._decoding.submit(self._decoded, job)
        except RuntimeError:
            job.fail(Closed(STOPPED))

    def _decoded(self, job: Job) -> None:
        try:
            began = time.monotonic()
            asked = job.asked
            assert asked is not None
            stages = self.answerer.stages
            options = self._options(asked.options, asked.options.max_windows)
            starts, ends = job.logits()
            found: Sequence[Result]
            if asked.decode is None:
                found = stages.decode(job.pairs, starts, ends, options)
            else:
                found = asked.decode(job.pairs, starts, ends, options, stages.loaded.bundle.manifest)
            job.times.decode = time.monotonic() - began
            reply = asked.form(found, job.times)
            # Whoever has an answer finds it counted, wherever they look.
            self._metrics.observe_answers(self.name, found)
            job.succeed(reply)
            self._answered(job, found)
        except BaseException as error:  # noqa: BLE001 - whatever it is, whoever waits must hear of it
            job.fail(error)

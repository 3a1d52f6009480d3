"""A bundle that answers in the background what another has answered, to be compared before it takes over."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastspan.errors import FastSpanError
from fastspan.results import Info, PassageAnswer
from fastspan.serving.hosted_bundles.hosted import Hosted
from fastspan.serving.observing.metrics import Metrics
from fastspan.serving.protocols.asked import Asked, Incoming, Reply, Result, Times
from fastspan.serving.scheduling.jobs import Job

__all__ = ["Shadow"]

# Requests that wait for the shadow at once; more are not compared, so that it never takes more than is over.
_MOST = 8

_SECONDS = 30.0


class Shadow:
    """Compares a bundle's answers with another's.

    Args:
        name: The name of the bundle that answers in the background.
        metrics: Where agreement is counted.
    """

    def __init__(self, name: str, metrics: Metrics) -> None:
        self.name = name
        self._metrics = metrics
        self._hosted: Hosted | None = None
        self._lock = threading.Lock()
        self._waiting = 0
        self._agreed = 0
        self._compared = 0
        self._skipped = 0

    def compare_with(self, hosted: Hosted) -> None:
        """Let a bundle answer in the background from now on."""
        self._hosted = hosted

    def compare(self, job: Job, predictions: Sequence[Result]) -> None:
        """Let the shadow answer what ``job`` asked, and count whether its answers are the same."""
        hosted, asked = self._hosted, job.asked
        assert asked is not None
        if hosted is None:
            return
        with self._lock:
            if self._waiting >= _MOST:
                self._skipped += 1
                return
            self._waiting += 1
        other = Job(deadline=time.monotonic() + _SECONDS)
        other.future.add_done_callback(lambda _: self._release())

        def form(found: Sequence[Result], _: Times) -> Reply:
            for ours, theirs in zip(predictions, found, strict=True):
                self._count(_same(ours, theirs))
            return Reply(body=b"")

        def again(_: Incoming, __: Info) -> Asked:
            return replace(asked, form=form)

        try:
            hosted.start(other, again, Incoming(body=b""))
        except FastSpanError as error:
            other.fail(error)

    def describe(self) -> dict[str, Any]:
        """Return how often they agreed."""
        with self._lock:
            share = self._agreed / self._compared if self._compared else None
            return {
                "shadow": self.name,
                "compared": self._compared,
                "agreement": share,
                "skipped": self._skipped,
            }

    def _count(self, same: bool) -> None:
        with self._lock:
            self._compared += 1
            self._agreed += same
        self._metrics.shadow.labels(self.name, "yes" if same else "no").inc()

    def _release(self) -> None:
        with self._lock:
            self._waiting -= 1


def _same(ours: Result, theirs: Result) -> bool:
    """Whether two results say the same: the same span, or both that there is no answer."""

    def said(result: Result) -> tuple[int, int, int] | None:
        best = result.answer
        if best is None:
            return None
        return (best.passage if isinstance(best, PassageAnswer) else 0, best.start, best.end)

    return said(ours) == said(theirs)

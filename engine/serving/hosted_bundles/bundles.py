"""The bundles of a service by name: which one answers, how one takes another's place, and who is compared."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fastspan.errors import Closed, InputError
from fastspan.serving.hosted_bundles.hosted import Answerer, Hosted
from fastspan.serving.hosted_bundles.shadow import Shadow
from fastspan.serving.http.responses import UnknownBundleError
from fastspan.serving.observing.metrics import Metrics
from fastspan.serving.protocols.asked import Incoming, Protocol, Result
from fastspan.serving.scheduling.jobs import Job
from fastspan.serving.scheduling.limits import Limits

__all__ = ["Bundles"]


class Bundles:
    """The bundles of a service.

    Args:
        answerers: By the names that requests have for them; the first answers those that name none.
        limits: What each takes on.
        metrics: Where runs and answers are counted.
        load: Loads one anew by its name, for a hot swap; None: there is none.
        shadow: The name of the one that answers in the background too, to be compared with the first.
        failed: Called with the number of runs in a row that failed.

    Raises:
        InputError: There are no bundles, or the shadow is none of the others.
    """

    def __init__(
        self,
        answerers: Mapping[str, Answerer],
        limits: Limits,
        metrics: Metrics,
        *,
        load: Callable[[str], Answerer] | None,
        shadow: str | None,
        failed: Callable[[int], None],
    ) -> None:
        if not answerers:
            raise InputError("A service needs a bundle to answer with.")
        self._limits = limits
        self._metrics = metrics
        self._load = load
        self._failed = failed
        self._swapping = threading.Lock()
        self._first = next(iter(answerers))
        if shadow is not None and (shadow not in answerers or shadow == self._first):
            raise InputError(f"The shadow must be one of the other bundles, not {shadow!r}.")
        self._shadow = None if shadow is None else Shadow(shadow, metrics)
        self._hosted = {name: self._host(name, answerer) for name, answerer in answerers.items()}
        for hosted in self:
            hosted.begin()
        if self._shadow is not None:
            self._shadow.compare_with(self._hosted[self._shadow.name])

    def get(self, name: str | None) -> Hosted:
        """Return the bundle of a name, or the first.

        Raises:
            UnknownBundleError: There is none of that name.
        """
        hosted = self._hosted.get(self._first if name is None else name)
        if hosted is None:
            raise UnknownBundleError(
                f"There is no bundle {str(name)[:80]!r} here, only {', '.join(self._hosted)}."
            )
        return hosted

    def start(self, name: str | None, job: Job, protocol: Protocol, incoming: Incoming) -> Hosted:
        """Begin with a request on the bundle that has a name now, and return that.

        Raises:
            UnknownBundleError: There is none of that name.
            Overloaded: It would have to wait too long, whatever it costs.
            Closed: The service is shutting down.
        """
        while True:
            hosted = self.get(name)
            try:
                hosted.start(job, protocol, incoming)
                return hosted
            except Closed:
                # Another may have taken its place a moment ago.
                if self.get(name) is hosted:
                    raise

    def __iter__(self) -> Iterator[Hosted]:
        return iter(list(self._hosted.values()))

    def describe(self) -> list[dict[str, Any]]:
        """Return what each is, for ``/info``."""
        found = []
        for name, hosted in list(self._hosted.items()):
            info = hosted.info()
            found.append(
                {
                    "name": name,
                    "model": info.name,
                    "variant": info.variant,
                    "no_answer_threshold": info.no_answer_threshold,
                }
            )
        if self._shadow is not None:
            found.append(self._shadow.describe())
        return found

    def reload(self, name: str | None) -> str:
        """Load a bundle anew and let it take the old one's place; requests under way are answered by the old.

        Returns:
            The name.

        Raises:
            UnknownBundleError: There is none of that name.
            InputError: This service cannot load.
            FastSpanError: It does not load; the old one goes on.
        """
        old = self.get(name)
        if self._load is None:
            raise InputError("This service was given loaded bundles: it cannot load one anew.")
        with self._swapping:
            answerer = self._load(old.name)
            try:
                new = self._host(old.name, answerer)
                new.warm_up()
            except BaseException:
                answerer.close()
                raise
            self._hosted[old.name] = new
            new.begin()
            if self._shadow is not None and old.name == self._shadow.name:
                self._shadow.compare_with(new)
            old.retire(old.answerer.close)
        return old.name

    def warm_up(self) -> None:
        """Run each once."""
        for hosted in self:
            hosted.warm_up()

    def stop_at(self, moment: float) -> None:
        """Let no run go on after a moment, on ``time.monotonic``'s clock."""
        for hosted in self:
            hosted.stop_at(moment)

    def close(self, *, wait: float = 0.0) -> None:
        """Refuse what waits, and wait at most so many seconds for the runs of each."""
        for hosted in self:
            hosted.close(wait=wait)

    def _host(self, name: str, answerer: Answerer) -> Hosted:
        return Hosted(
            name,
            answerer,
            self._limits,
            self._metrics,
            failed=self._failed,
            answered=self._compare if self._shadow is not None and name == self._first else _ignore,
        )

    def _compare(self, job: Job, predictions: Sequence[Result]) -> None:
        if self._shadow is not None:
            self._shadow.compare(job, predictions)


def _ignore(job: Job, predictions: Sequence[Result]) -> None:
    """Nobody compares."""

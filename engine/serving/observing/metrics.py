"""What the service counts and measures, as Prometheus reads it.

What happens is noted, and counted a moment later: to find the cells of a dozen metrics takes a tenth of a
millisecond where a core has just run the model, and nobody should wait for that. Who looks finds all of it.

Where several processes serve one port, each writes its values to files in a folder that they share, and
whichever is asked adds them up; ``processes.py`` names the folder to its children in the environment.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector

from fastspan.decoding.confidence import decision_confidence
from fastspan.results import Prediction
from fastspan.serving.observing.drift import Drift
from fastspan.serving.protocols.asked import Result, Times
from fastspan.serving.settings import FOLDER_VARIABLE

__all__ = ["Metrics"]

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_TOKENS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_LOGITS = (-20, -10, -5, -2, 0, 2, 5, 10, 15, 20)

# So much is noted at most before somebody counts it.
_MOST_NOTED = 500


class Metrics:
    """The metrics of one service.

    Args:
        registry: Where they are registered; None: a registry of their own.

    Attributes:
        shared: Whether other processes add these to their own.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry or CollectorRegistry()
        self.shared = FOLDER_VARIABLE in os.environ
        here = self._registry
        both = ("protocol", "bundle")
        self.requests = Counter(
            "fastspan_requests", "Requests, by outcome.", (*both, "status"), registry=here
        )
        self.rejected = Counter(
            "fastspan_rejected", "Requests refused or given up, by reason.", ("reason",), registry=here
        )
        self.disconnected = Counter(
            "fastspan_disconnected", "Clients that left before their answer.", registry=here
        )
        self.duration = Histogram(
            "fastspan_request_seconds",
            "From a request's header to its answer.",
            both,
            buckets=_SECONDS,
            registry=here,
        )
        self._stages = {
            stage: Histogram(f"fastspan_{stage}_seconds", meaning, both, buckets=_SECONDS, registry=here)
            for stage, meaning in {
                "encode": "From a complete body to windows.",
                "queue": "From windows to the first run.",
                "run": "From the begin of the first run to the end of the last.",
                "decode": "From logits to predictions.",
            }.items()
        }
        self._batch_windows = Histogram(
            "fastspan_batch_windows", "Windows in a run.", ("bundle",), buckets=_WINDOWS, registry=here
        )
        self._batch_tokens = Histogram(
            "fastspan_batch_tokens", "Tokens in a run.", ("bundle",), buckets=_TOKENS, registry=here
        )
        self.queue_depth = Gauge(
            "fastspan_queue_requests",
            "Requests with windows that wait for a run.",
            ("bundle",),
            registry=here,
            multiprocess_mode="livesum",
        )
        self.in_flight = Gauge(
            "fastspan_in_flight_requests",
            "Requests whose body is in and whose answer is not out.",
            registry=here,
            multiprocess_mode="livesum",
        )
        self.connections = Gauge(
            "fastspan_connections", "Open connections.", registry=here, multiprocess_mode="livesum"
        )
        self._pace = Gauge(
            "fastspan_tokens_per_second",
            "What the model runs, as a moving average.",
            ("bundle",),
            registry=here,
            multiprocess_mode="livesum",
        )
        self._answers = Counter(
            "fastspan_answers", "Predictions, by whether they answer.", ("bundle", "answered"), registry=here
        )
        self._confidence = Histogram(
            "fastspan_confidence",
            "Calibrated confidence of predictions.",
            ("bundle",),
            buckets=_SHARES,
            registry=here,
        )
        self._null_score = Histogram(
            "fastspan_null_score", "The null score.", ("bundle",), buckets=_LOGITS, registry=here
        )
        self._drift = Gauge(
            "fastspan_drift",
            "How far the confidences of the latest answers lie from those of the calibration, from 0 to 1.",
            ("bundle",),
            registry=here,
            multiprocess_mode="livemostrecent",
        )
        self.shadow = Counter(
            "fastspan_shadow_answers",
            "Answers compared with the shadow's.",
            ("bundle", "agree"),
            registry=here,
        )
        self._queues: dict[str, Callable[[], int]] = {}
        self._drifts: dict[str, Drift] = {}
        self._children: dict[tuple[MetricWrapperBase, tuple[str, ...]], Any] = {}
        self._noted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def observe_request(self, protocol: str, bundle: str, status: int, seconds: float) -> None:
        """Take down a request's outcome, and how long it took."""
        self._note(self._count_request, protocol, bundle, status, seconds)

    def watch(self, bundle: str, waiting: Callable[[], int], expected: Sequence[int] | None) -> None:
        """Take a bundle in, or in the place of another of its name.

        Args:
            bundle: Its name.
            waiting: Tells how many requests wait for a run.
            expected: As for ``Drift``.
        """
        self._queues[bundle] = waiting
        self._note(self._drifts.__setitem__, bundle, Drift(expected))

    def observe_run(self, bundle: str, tokens: Sequence[int], pace: float) -> None:
        """Take down a run.

        Args:
            bundle: Whose.
            tokens: Of each of its windows.
            pace: Tokens a second, of all runs together.
        """
        self._note(self._count_run, bundle, tokens, pace)

    def observe_times(self, protocol: str, bundle: str, times: Times) -> None:
        """Take down where a request's time went; it does not change any more."""
        self._note(self._count_times, protocol, bundle, times)

    def observe_answers(self, bundle: str, found: Sequence[Result]) -> None:
        """Take down what was predicted, or read."""
        self._note(self._count_answers, bundle, found)

    def settle(self) -> None:
        """Count what was noted, in its order, and what waits now. From any thread."""
        while self._noted:
            try:
                count, values = self._noted.popleft()
            except IndexError:  # another thread was faster
                break
            count(*values)
        for bundle, waiting in tuple(self._queues.items()):
            self._of(self.queue_depth, bundle).set(waiting())
        for bundle, drift in tuple(self._drifts.items()):
            if (distance := drift.distance()) is not None:
                self._of(self._drift, bundle).set(distance)

    def exposition(self) -> bytes:
        """Return everything in Prometheus's text format, all processes of the service added up."""
        self.settle()
        if not self.shared:
            return prometheus_client.generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return prometheus_client.generate_latest(together)

    def _note(self, count: Callable[..., object], *values: Any) -> None:
        self._noted.append((count, values))
        if len(self._noted) > _MOST_NOTED:
            self.settle()

    def _count_request(self, protocol: str, bundle: str, status: int, seconds: float) -> None:
        self._of(self.requests, protocol, bundle, str(status)).inc()
        self._of(self.duration, protocol, bundle).observe(seconds)

    def _count_run(self, bundle: str, tokens: Sequence[int], pace: float) -> None:
        self._of(self._batch_windows, bundle).observe(len(tokens))
        self._of(self._batch_tokens, bundle).observe(sum(tokens))
        self._of(self._pace, bundle).set(pace)

    def _count_times(self, protocol: str, bundle: str, times: Times) -> None:
        for stage, histogram in self._stages.items():
            self._of(histogram, protocol, bundle).observe(max(0.0, getattr(times, stage)))

    def _count_answers(self, bundle: str, found: Sequence[Result]) -> None:
        drift = self._drifts.setdefault(bundle, Drift())
        for result in found:
            self._of(self._answers, bundle, "yes" if result.answer is not None else "no").inc()
            if result.confidence is not None:
                self._of(self._confidence, bundle).observe(result.confidence)
            # The best of many passages has other scores than one; they are not compared.
            if isinstance(result, Prediction):
                self._of(self._null_score, bundle).observe(result.null_score)
                drift.add(_sureness(result))

    def _of(self, metric: MetricWrapperBase, *labels: str) -> Any:
        """Return what a metric counts of these labels; ``labels`` looks at each of them anew."""
        key = (metric, labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child


def _sureness(found: Prediction) -> float:
    """The confidence; of a bundle without a calibration, what the margin alone suggests."""
    if found.confidence is not None:
        return found.confidence
    return decision_confidence(found.margin, 0.0, None, answered=found.answer is not None)

"""What a measurement of a service leaves behind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.serving.load import Outcome
from fastspan.errors import DataError

__all__ = ["Beside", "LoadPoint", "ServingRecord", "Target", "point_of"]

FILE = "serving.json"
"""The record's name in the folder of a kind of hardware."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """What became of one offered load.

    Attributes:
        offered: Requests a second that were to be sent, on average.
        seconds: How long they were sent.
        sent: Requests that were sent; always ``ok + rejected + expired + failed``.
        ok: Answered.
        rejected: Refused: 429 or 503.
        expired: Accepted and late: 504, or given up by the client.
        failed: Anything else.
        within: Of ``ok``, those within the limit of latency.
        p50_ms: Median latency of those answered, in milliseconds; None: there are none.
        p99_ms: The 99th percentile of the latency of those accepted: answered or expired.
        rejected_p50_ms: Median time to a refusal; None: there are none.
        rejected_p99_ms: The 99th percentile of it.
        late_p99_ms: The 99th percentile of how late the client itself sent a request; part of every latency.
        books: Where the service's metrics differ; empty: nowhere.
        metrics: Whether the service has metrics to compare with.
    """

    offered: float
    seconds: float
    sent: int
    ok: int
    rejected: int
    expired: int
    failed: int
    within: int
    p50_ms: float | None
    p99_ms: float | None
    rejected_p50_ms: float | None
    rejected_p99_ms: float | None
    late_p99_ms: float | None
    books: str
    metrics: bool

    @property
    def goodput(self) -> float:
        """Answers a second within the limit."""
        return self.within / self.seconds

    @property
    def missed(self) -> float:
        """The share of accepted requests that missed their deadline."""
        return self.expired / max(1, self.ok + self.expired)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A service that was measured.

    Attributes:
        name: What it is.
        capacity: Answers a second to clients that ask one request after the other.
        points: What became of each load, the smallest first.
    """

    name: str
    capacity: float
    points: tuple[LoadPoint, ...]

    def best(self, limit_ms: float) -> LoadPoint | None:
        """The load with most answers within the limit, of those whose 99th percentile is within it."""
        fit = [point for point in self.points if point.p99_ms is not None and point.p99_ms <= limit_ms]
        return max(fit, key=lambda point: point.goodput, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A service beside its engine in the process of its client, with the same options.

    Attributes:
        engine_p50_ms: Median time of ``QuestionAnswerer.answer``, in milliseconds.
        service_p50_ms: Median time of the same questions, one after the other on a connection that is kept.
        engine_per_second: Answers a second of ``answer_many``.
        service_per_second: Answers a second to clients that ask one after the other.
        share: The latter over the former; the median of rounds.
        clients: How many clients ask at once.
        clients_took: Their share in the time of all cores meanwhile, likewise; None: it was not measured,
            or there were more cores than the service used.
    """

    engine_p50_ms: float
    service_p50_ms: float
    engine_per_second: float
    service_per_second: float
    share: float
    clients: int
    clients_took: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingRecord:
    """A measurement.

    Attributes:
        machine: What it ran on, as name → value.
        limit_ms: The limit of latency, in milliseconds.
        questions: How many different requests were sent in turn.
        targets: The services.
        beside: FastSpan's beside its engine; None: it was not measured.
    """

    machine: dict[str, str]
    limit_ms: float
    questions: int
    targets: tuple[Target, ...]
    beside: Beside | None = None

    def write(self, folder: Path) -> Path:
        """Write it into a folder and return the file.

        Raises:
            InputError: It cannot be written.
        """
        path = folder / FILE
        write_text(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def read(cls, folder: Path) -> ServingRecord:
        """Read the one in a folder.

        Raises:
            DataError: There is none, or it is malformed.
        """
        path = folder / FILE
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            targets = tuple(
                Target(**{**target, "points": tuple(LoadPoint(**point) for point in target["points"])})
                for target in found.pop("targets")
            )
            beside = found.pop("beside", None)
            return cls(**found, targets=targets, beside=None if beside is None else Beside(**beside))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no record of a service under load ({error}).") from error


def point_of(
    outcomes: Sequence[Outcome], *, offered: float, seconds: float, limit_ms: float, books: str, metrics: bool
) -> LoadPoint:
    """Sum up what became of requests."""
    fates = Counter(outcome.fate for outcome in outcomes)
    answered = sorted(1000 * outcome.seconds for outcome in outcomes if outcome.fate == "ok")
    accepted = sorted(1000 * outcome.seconds for outcome in outcomes if outcome.fate in ("ok", "expired"))
    refused = sorted(1000 * outcome.seconds for outcome in outcomes if outcome.fate == "rejected")
    late = sorted(1000 * outcome.late for outcome in outcomes)
    return LoadPoint(
        offered=offered,
        seconds=seconds,
        sent=len(outcomes),
        ok=fates["ok"],
        rejected=fates["rejected"],
        expired=fates["expired"],
        failed=fates["failed"],
        within=sum(latency <= limit_ms for latency in answered),
        p50_ms=_quantile(answered, 0.5),
        p99_ms=_quantile(accepted, 0.99),
        rejected_p50_ms=_quantile(refused, 0.5),
        rejected_p99_ms=_quantile(refused, 0.99),
        late_p99_ms=_quantile(late, 0.99),
        books=books,
        metrics=metrics,
    )


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of all does not exceed."""
    if not ordered:
        return None
    count = -(-len(ordered) * share // 1)
    return ordered[max(1, int(count)) - 1]

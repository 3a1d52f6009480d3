"""The service's own count of requests, to hold the client's against."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from fastspan.benchmarks.serving.load import Outcome, ServiceError, fetch

__all__ = ["compare", "counted", "require_answer"]

_LINE = re.compile(r'^fastspan_requests_total\{[^}]*status="(\d+)"[^}]*\} (\S+)$', re.MULTILINE)

# What the service writes down where the client gave up first.
_LEFT = 499


def counted(address: str) -> Counter[int] | None:
    """Return how many requests the service has had, by status; None: it has no such metrics.

    Raises:
        ServiceError: There is no response.
    """
    status, content = fetch(f"{address}/metrics")
    text = content.decode("utf-8", "replace")
    if status != 200 or "fastspan_requests" not in text:
        return None
    found: Counter[int] = Counter()
    for code, value in _LINE.findall(text):
        found[int(code)] += int(float(value))
    return found


def compare(outcomes: Sequence[Outcome], before: Counter[int] | None, after: Counter[int] | None) -> str:
    """Say where the client's books and the service's differ; empty: they agree, or the service has none."""
    if before is None or after is None:
        return ""
    ours = Counter(outcome.status or _LEFT for outcome in outcomes if outcome.fate != "failed")
    # What failed without a status may or may not have reached the service.
    ours += Counter(outcome.status for outcome in outcomes if outcome.fate == "failed" and outcome.status)
    theirs = after - before
    differing = [
        f"{ours[status]} of status {status} here, {theirs[status]} in its metrics"
        for status in sorted({*ours, *theirs})
        if ours[status] != theirs[status]
    ]
    return "; ".join(differing)


def require_answer(address: str, url: str, body: bytes) -> None:
    """Ask once.

    Raises:
        ServiceError: The answer's status is not 200.
    """
    status, content = fetch(url, body)
    if status != 200:
        said = content[:200].decode("utf-8", "replace")
        raise ServiceError(f"{address} does not answer: status {status}, {said}")

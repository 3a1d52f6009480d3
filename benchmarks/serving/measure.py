"""One service at one load after the other: its capacity first, then shares of it up to twice."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.benchmarks.serving.books import compare, counted, require_answer
from fastspan.benchmarks.serving.load import ServiceError, closed_loop, open_loop
from fastspan.benchmarks.serving.record import LoadPoint, Target, point_of
from fastspan.errors import InputError

__all__ = ["SHARES", "Plan", "bodies", "measure"]

SHARES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0)
"""Of the capacity: the loads that are offered unless others are asked for."""


_SETTLE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a service is measured.

    Attributes:
        loads: Requests a second; none: ``shares`` of the capacity.
        shares: Of the capacity.
        seconds: How long each load is offered; the capacity is measured for as long.
        clients: How many ask at once while the capacity is measured.
        limit_ms: The limit of latency, in milliseconds; the header of each offered request says it.
        patience: Seconds after which a request without a response is given up.
    """

    loads: tuple[float, ...] = ()
    shares: tuple[float, ...] = SHARES
    seconds: float = 6.0
    clients: int = 16
    limit_ms: float = 250.0
    patience: float = 10.0

    def __post_init__(self) -> None:
        numbers = (*self.loads, *self.shares, self.seconds, self.clients, self.limit_ms, self.patience)
        if not all(0 < number < float("inf") for number in numbers):
            raise InputError("Loads, seconds, clients and the limit must be numbers above 0.")


def bodies(data: str | None = None) -> list[bytes]:
    """Return requests in FastSpan's own protocol, of a file of questions or of the project's own.

    They are shuffled, always in the same way: a file has its long contexts together, and a load that takes
    the first few of them would not be the share of the capacity that it is said to be.
    """
    found = [
        json.dumps({"question": question.question, "context": question.context}).encode()
        for question in open_data(data).questions
    ]
    random.Random(0).shuffle(found)
    return found


def measure(
    name: str, address: str, requests: Sequence[bytes], plan: Plan, say: Callable[[str], None]
) -> Target:
    """Measure a service that runs.

    Args:
        name: What to call it.
        address: Such as ``http://127.0.0.1:8080``; its route ``/answer`` is asked.
        requests: Bodies, sent in turn.
        plan: How.
        say: Told of each load.

    Raises:
        ServiceError: It cannot be reached, or does not answer.
    """
    address = address.rstrip("/")
    url = f"{address}/answer"
    require_answer(address, url, requests[0])
    began = time.monotonic()
    answered = closed_loop(url, requests, clients=plan.clients, seconds=plan.seconds, patience=plan.patience)
    capacity = sum(outcome.fate == "ok" for outcome in answered) / (time.monotonic() - began)
    if not capacity:
        raise ServiceError(f"{address} answered nothing in {plan.seconds:g} seconds.")
    say(f"{name}: {capacity:.1f} answers a second to {plan.clients} clients that wait for theirs")
    points = []
    for rate in sorted(plan.loads or (capacity * share for share in plan.shares)):
        point = _offer(address, url, requests, rate, plan)
        points.append(point)
        say(_told(name, point))
    return Target(name=name, capacity=capacity, points=tuple(points))


def _offer(address: str, url: str, requests: Sequence[bytes], rate: float, plan: Plan) -> LoadPoint:
    before = counted(address)
    outcomes = open_loop(
        url,
        requests,
        rate=rate,
        seconds=plan.seconds,
        patience=plan.patience,
        deadline_ms=max(1, round(plan.limit_ms)),
    )
    after = counted(address)
    # That a client gave up is noticed a moment later.
    end = time.monotonic() + _SETTLE_S
    while compare(outcomes, before, after) and time.monotonic() < end:
        time.sleep(0.1)
        after = counted(address)
    return point_of(
        outcomes,
        offered=rate,
        seconds=plan.seconds,
        limit_ms=plan.limit_ms,
        books=compare(outcomes, before, after),
        metrics=after is not None,
    )


def _told(name: str, point: LoadPoint) -> str:
    late = "–" if point.p99_ms is None else f"{point.p99_ms:.0f} ms"
    books = f"; BOOKS DIFFER: {point.books}" if point.books else ""
    counts = (
        f"{point.sent} sent = {point.ok} ok + {point.rejected} rejected + {point.expired} expired "
        f"+ {point.failed} failed"
    )
    return (
        f"{name}: {point.offered:.1f}/s offered, {counts}; p99 {late}, goodput {point.goodput:.1f}/s{books}"
    )

"""Requests to a service, and what became of each: in an open loop or a closed one.

An open loop sends a request when it is due, whatever became of those before, as many independent clients do.
Latency counts from when a request was due: a client that is late itself must not make the service look fast.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastspan.errors import FastSpanError, MissingDependency

__all__ = ["Outcome", "ServiceError", "closed_loop", "fetch", "open_loop"]

T = TypeVar("T")

Fate = str
"""``"ok"``, ``"rejected"`` (429, 503), ``"expired"`` (504, or this client's own patience) or ``"failed"``."""

_PAUSE_S = 0.1
_FATES = {200: "ok", 429: "rejected", 503: "rejected", 504: "expired"}


class ServiceError(FastSpanError):
    """The service that is to be measured cannot be reached, or does not answer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request.

    Attributes:
        fate: As ``Fate`` says.
        status: Of HTTP; 0: there was none.
        seconds: From when it was due to the end of the response.
        late: Of these, how long the client took to begin with it.
    """

    fate: Fate
    status: int
    seconds: float
    late: float = 0.0


def open_loop(
    url: str,
    bodies: Sequence[bytes],
    *,
    rate: float,
    seconds: float,
    patience: float,
    deadline_ms: int | None = None,
    seed: int = 0,
) -> list[Outcome]:
    """Send requests at random moments, ``rate`` a second on average, and wait for what becomes of them.

    The gaps are exponential, so that requests come as those of many independent clients do.

    Args:
        url: Of the route.
        bodies: JSON; they are sent in turn.
        rate: Requests a second.
        seconds: How long to send.
        patience: After how many seconds a request without a response counts as expired.
        deadline_ms: What the header ``X-Request-Timeout-Ms`` says; None: there is none.
        seed: Of the gaps.

    Returns:
        As many outcomes as requests were sent.
    """

    async def work() -> list[Outcome]:
        async with _session(patience, deadline_ms) as session:
            chosen = random.Random(seed)
            sent: list[asyncio.Task[Outcome]] = []
            began, due = time.perf_counter(), 0.0
            while (due := due + chosen.expovariate(rate)) < seconds:
                await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
                body = bodies[len(sent) % len(bodies)]
                sent.append(asyncio.create_task(_post(session, url, body, began + due)))
            return list(await asyncio.gather(*sent))

    return _run(work())


def closed_loop(
    url: str, bodies: Sequence[bytes], *, clients: int, seconds: float | None, patience: float
) -> list[Outcome]:
    """Let some clients ask one request after the other; after one that is refused, a client pauses.

    Args:
        url: Of the route.
        bodies: JSON; they are sent in turn.
        clients: How many ask at once.
        seconds: How long they begin new requests, each one at least; None: until each body was sent once.
        patience: As for ``open_loop``.
    """

    async def work() -> list[Outcome]:
        found: list[Outcome] = []
        end = math.inf if seconds is None else time.perf_counter() + seconds
        # The clients share them: whoever is free takes the next.
        left = iter(bodies) if seconds is None else itertools.cycle(bodies)

        async def client() -> None:
            for body in left:
                now = time.perf_counter()
                found.append(await _post(session, url, body, now))
                if found[-1].fate != "ok":
                    # Asking again at once would be load that nobody meant.
                    await asyncio.sleep(_PAUSE_S)
                if time.perf_counter() >= end:
                    return

        async with _session(patience) as session:
            await asyncio.gather(*(client() for _ in range(clients)))
        return found

    return _run(work())


def fetch(url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Return status and content of one request: a GET, or the POST of a body.

    Raises:
        ServiceError: There is no response.
    """

    async def work() -> tuple[int, bytes]:
        async with _session(30.0) as session:
            asked = session.get(url) if body is None else session.post(url, data=body, headers=_JSON)
            async with asked as response:
                return response.status, await response.read()

    try:
        return _run(work())
    except _failures() as error:
        raise ServiceError(
            f"{url} cannot be reached ({str(error) or type(error).__name__}): start it with "
            "`fastspan serve`, and give its address as http://HOST:PORT."
        ) from error


_JSON = {"content-type": "application/json"}


async def _post(session: Any, url: str, body: bytes, due: float) -> Outcome:
    """Send one request that was due at a moment of ``perf_counter``; whatever happens is an outcome."""
    status = 0
    late = time.perf_counter() - due
    try:
        async with session.post(url, data=body, headers=_JSON) as response:
            status = response.status
            content = await response.read()
            fate = _FATES.get(status, "failed")
            if fate == "ok" and not isinstance(json.loads(content), dict):
                fate = "failed"
    except asyncio.TimeoutError:
        fate, status = "expired", 0
    except _failures():
        fate = "failed"
    return Outcome(fate, status, time.perf_counter() - due, late)


def _session(patience: float, deadline_ms: int | None = None) -> Any:
    """Return a client's session."""
    aiohttp = _aiohttp()
    headers = {} if deadline_ms is None else {"x-request-timeout-ms": str(deadline_ms)}
    # Connections are kept, as clients and load balancers do; there is no limit to how many.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=patience),
        headers=headers,
    )


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run the clients on a loop that takes little of the cores: they are the service's too."""
    try:
        import uvloop  # comes with what serves, where it runs
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def _failures() -> tuple[type[Exception], ...]:
    """What a request without a usable response raises."""
    return (OSError, ValueError, asyncio.TimeoutError, _aiohttp().ClientError)


def _aiohttp() -> Any:
    try:
        import aiohttp
    except ImportError as error:
        raise MissingDependency(
            'Load needs aiohttp: run pip install "fastspan[bench]", or `make dev`.'
        ) from error
    return aiohttp

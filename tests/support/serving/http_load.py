"""Requests that are sent when they are due, whatever became of those before: an open loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

__all__ = ["Outcome", "open_loop", "post"]


@dataclass
class Outcome:
    """What became of requests.

    Attributes:
        seconds: Status → how long each response took; status 0: the connection failed.
    """

    seconds: dict[int, list[float]] = field(default_factory=dict)

    def count(self, *statuses: int) -> int:
        """How many had one of these statuses; without any, how many there were."""
        return sum(len(found) for status, found in self.seconds.items() if not statuses or status in statuses)


def post(path: str, body: bytes, *headers: str) -> bytes:
    """The bytes of a request on a connection of its own."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _send(port: int, request: bytes, outcome: Outcome) -> None:
    began, status = time.perf_counter(), 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            head = await reader.read()
            status = int(head.split(b" ", 2)[1])
        finally:
            writer.close()
    outcome.seconds.setdefault(status, []).append(time.perf_counter() - began)


async def _open_loop(port: int, requests: list[bytes], rate: float, seconds: float) -> Outcome:
    outcome, sent = Outcome(), []
    began = time.perf_counter()
    number = 0
    while (due := number / rate) < seconds:
        await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
        sent.append(asyncio.create_task(_send(port, requests[number % len(requests)], outcome)))
        number += 1
    await asyncio.gather(*sent)
    return outcome


def open_loop(port: int, requests: list[bytes], *, rate: float, seconds: float) -> Outcome:
    """Send ``rate`` requests a second for some seconds, and wait for what becomes of them."""
    return asyncio.run(_open_loop(port, requests, rate, seconds))

"""Bodies of requests as they arrive: their size, their time, and the memory that all of them take."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request

from fastspan.errors import Closed, FastSpanError, Overloaded
from fastspan.serving.http.responses import BodyTimeoutError, PayloadTooLargeError
from fastspan.serving.scheduling.limits import Limits

__all__ = ["Bodies"]


class Bodies:
    """Receives bodies within limits.

    Args:
        limits: ``payload_bytes``, ``body_seconds`` and ``pending_bytes`` are used.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pending = 0
        # What ends the wait for each, with an error.
        self._arriving: set[Callable[[FastSpanError], None]] = set()

    async def receive(self, request: Request) -> bytes:
        """Return a request's body once it is complete.

        Raises:
            PayloadTooLargeError: It is, or claims to be, larger than the limit.
            BodyTimeoutError: It did not arrive in time.
            Closed: The service stops.
            Overloaded: All the bodies that are arriving are larger than the service has room for.
            ClientDisconnect: The client went away.
        """
        declared = request.headers.get("content-length", "")
        # Twenty digits are beyond any limit already; int() would refuse thousands of them.
        if declared.isdecimal() and int(declared[:20]) > self._limits.payload_bytes:
            raise self._too_large()
        task = asyncio.current_task()
        assert task is not None
        given_up: list[FastSpanError] = []

        def give_up(error: FastSpanError | None = None) -> None:
            if not given_up:
                given_up.append(error or self._too_slow())
                task.cancel()

        # Most bodies come with their header: a task of its own would cost more than to receive them does.
        late = asyncio.get_running_loop().call_later(self._limits.body_seconds, give_up)
        self._arriving.add(give_up)
        try:
            return await self._received(request)
        except asyncio.CancelledError:
            if not given_up:
                raise
            if sys.version_info >= (3, 11):
                task.uncancel()
            raise given_up[0] from None
        finally:
            self._arriving.discard(give_up)
            late.cancel()

    def close(self) -> None:
        """Give up the bodies that are arriving."""
        for give_up in list(self._arriving):
            give_up(Closed("The service was asked to stop before this body was complete: ask another one."))

    async def _received(self, request: Request) -> bytes:
        chunks: list[bytes] = []
        counted = 0
        more = True
        try:
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk, more = message.get("body", b""), message.get("more_body", False)
                chunks.append(chunk)
                self._pending += len(chunk)
                counted += len(chunk)
                if counted > self._limits.payload_bytes:
                    raise self._too_large()
                if self._pending > self._limits.pending_bytes:
                    raise Overloaded(
                        f"The bodies that are arriving take more than {self._limits.pending_bytes:,} bytes: "
                        "ask again later, or start the service with a higher --max-pending-bytes.",
                        reason="bodies",
                    )
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        finally:
            self._pending -= counted

    def _too_slow(self) -> BodyTimeoutError:
        return BodyTimeoutError(
            f"The body was not complete after {self._limits.body_seconds:g} seconds: send it faster."
        )

    def _too_large(self) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"The body is larger than the limit of {self._limits.payload_bytes:,} bytes: split the context, "
            "or start the service with a higher --payload-limit."
        )

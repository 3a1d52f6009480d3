"""Bodies of requests as they arrive: their size, their time, and the memory that all of them take."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from fastspan.errors import Closed, Overloaded
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
        self._arriving: set[asyncio.Task[bytes]] = set()

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
        arriving = asyncio.ensure_future(self._received(request))
        self._arriving.add(arriving)
        try:
            done, _ = await asyncio.wait((arriving,), timeout=self._limits.body_seconds)
            if not done:
                raise BodyTimeoutError(
                    f"The body was not complete after {self._limits.body_seconds:g} seconds: send it faster."
                )
            if arriving.cancelled():
                raise Closed("The service was asked to stop before this body was complete: ask another one.")
            return arriving.result()
        finally:
            self._arriving.discard(arriving)
            arriving.cancel()

    def close(self) -> None:
        """Give up the bodies that are arriving."""
        for arriving in self._arriving:
            arriving.cancel()

    async def _received(self, request: Request) -> bytes:
        body = bytearray()
        counted = 0
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._limits.payload_bytes:
                    raise self._too_large()
                self._pending += len(chunk)
                counted += len(chunk)
                if self._pending > self._limits.pending_bytes:
                    raise Overloaded(
                        f"The bodies that are arriving take more than {self._limits.pending_bytes:,} bytes: "
                        "ask again later, or start the service with a higher --max-pending-bytes.",
                        reason="bodies",
                    )
            return bytes(body)
        finally:
            self._pending -= counted

    def _too_large(self) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"The body is larger than the limit of {self._limits.payload_bytes:,} bytes: split the context, "
            "or start the service with a higher --payload-limit."
        )

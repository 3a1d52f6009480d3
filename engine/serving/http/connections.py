"""Connections: how many, how long one may be silent, and what one is told that does not speak HTTP.

uvicorn waits for a request's header for ever, and for as many connections as there are files. So a few lines
of a script would lock everyone else out. Here a header has a deadline. Where all connections are taken, a new
one takes the place of the one that has been without a request for longest.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from fastspan.serving.http.responses import error_body
from fastspan.serving.observing.metrics import Metrics
from fastspan.serving.scheduling.limits import Limits

__all__ = ["connection_class"]

_NOT_HTTP = "This is no HTTP request that the service understands."
_TOO_SLOW = "The header was not complete in time: send it faster, or raise --header-timeout."
_NO_ROOM = "All connections of this service are in use: ask again in a moment."


def connection_class(limits: Limits, metrics: Metrics) -> type[H11Protocol]:
    """Return the class of a service's connections, for uvicorn.

    Args:
        limits: ``connections`` and ``header_seconds`` are used.
        metrics: Where connections are counted.
    """
    # In the order in which they became idle: those without a request under way.
    idle: dict[_Connection, None] = {}

    class Connection(_Connection):
        """A connection of this service."""

        _limits = limits
        _metrics = metrics
        _idle = idle

    return Connection


class _Connection(H11Protocol):
    """A connection whose class knows the service's limits and its idle connections."""

    _limits: Limits
    _metrics: Metrics
    _idle: dict[_Connection, None]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._header_timer: asyncio.TimerHandle | None = None
        self._begun: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; where there are too many, in the place of an idle one."""
        super().connection_made(_Joined(transport, self._begins_response))  # type: ignore[arg-type]
        _send_at_once(transport)
        if len(self.connections) > self._limits.connections:
            longest = next(iter(self._idle), None)
            if longest is None:
                self._refuse(503, "unavailable", _NO_ROOM)
                return
            longest.transport.abort()
            longest.connection_lost(None)
        self._metrics.connections.set(len(self.connections))
        self._becomes_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._becomes_busy()
        super().connection_lost(exc)
        self._metrics.connections.set(len(self.connections))

    def data_received(self, data: bytes) -> None:
        """Take what came; until it makes a request, the header's deadline runs."""
        super().data_received(data)
        if self._has_request():
            self._becomes_busy()
        elif self._header_timer is None and not self.transport.is_closing():
            # A connection that was kept: its next header has begun.
            self._becomes_idle()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self._has_request() and not self.transport.is_closing():
            self._idle[self] = None

    def send_400_response(self, msg: str) -> None:
        """Say in JSON that this is no HTTP; uvicorn's own response is text."""
        self._refuse(400, "not_http", _NOT_HTTP)

    def _has_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _begins_response(self) -> bool:
        """Whether what is written now is the header of a response."""
        begins = self.cycle is not None and self.cycle.response_started and self.cycle is not self._begun
        if begins:
            self._begun = self.cycle
        return begins

    def _becomes_idle(self) -> None:
        self._idle[self] = None
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self._limits.header_seconds, self._header_is_late)

    def _becomes_busy(self) -> None:
        self._idle.pop(self, None)
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _header_is_late(self) -> None:
        self._header_timer = None
        if not self._has_request():
            self._refuse(408, "header_timeout", _TOO_SLOW)

    def _refuse(self, status: int, kind: str, message: str) -> None:
        """Send an error of our own, and close."""
        self._becomes_busy()
        body = json.dumps(error_body(kind, message)).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if status == 503:
            headers.append((b"retry-after", b"1"))
        try:
            for event in (
                h11.Response(status_code=status, headers=headers, reason=b""),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            # A response is under way, which cannot be taken back.
            pass
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


class _Joined:
    """A connection's transport that sends the header of a response together with what comes next.

    uvicorn writes them apart. Each packet costs a call of the system, and wakes the client up.

    Args:
        transport: The transport; whatever is not said here is its own.
        begins: Whether what is written is a header of a response.
    """

    def __init__(self, transport: asyncio.Transport, begins: Callable[[], bool]) -> None:
        self._transport = transport
        self._begins = begins
        self._header = b""

    def write(self, data: bytes) -> None:
        """Send data, or keep it until there is more."""
        if self._begins():
            self._header = data
            return
        header, self._header = self._header, b""
        self._transport.write(header + data)

    def close(self) -> None:
        """Close, once everything was sent."""
        header, self._header = self._header, b""
        self._transport.write(header)
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _send_at_once(transport: asyncio.Transport) -> None:
    """Let no packet wait until the client has acknowledged the one before.

    A response may be several writes, and clients may acknowledge the first 40 ms late. asyncio sets this only
    where it knows that a socket speaks TCP, and of a socket that it was given it does not.
    """
    connected = transport.get_extra_info("socket")
    if connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

"""Connections of a service that drains: each is closed behind its response, and the client is told so."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ClosingWhileDraining"]


class ClosingWhileDraining:
    """Says in every response, while the service drains, that its connection is closed behind it.

    Args:
        app: The application.
        draining: Whether the service drains.
    """

    def __init__(self, app: ASGIApp, draining: Callable[[], bool]) -> None:
        self._app = app
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and self._draining():
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, sent if scope["type"] == "http" else send)

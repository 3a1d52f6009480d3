"""A line of JSON for each request: who asked what of whom, how it went and how long it took; no texts."""

from __future__ import annotations

import json
import logging
import time
from datetime import datetime, timezone
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["AccessLog", "note", "noted"]

_log = logging.getLogger("fastspan.access")

_NOTES = "fastspan.access"


def noted(scope: Scope) -> bool:
    """Return whether there is to be a line of a request."""
    return _NOTES in scope


def note(scope: Scope, **values: Any) -> None:
    """Put values into the line of a request, where there is to be one."""
    if (notes := scope.get(_NOTES)) is not None:
        notes.update(values)


class AccessLog:
    """Writes a line of JSON to standard error for each request.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        if not _log.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(message)s"))
            _log.addHandler(handler)
        _log.setLevel(logging.INFO)
        _log.propagate = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and write its line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        notes: dict[str, Any] = {}
        scope[_NOTES] = notes

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            headers = dict(scope["headers"])
            line = {
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "client": (scope.get("client") or ("",))[0],
                "method": scope["method"],
                "path": scope["path"],
                "status": status or 500,
                "ms": round(1000 * (time.perf_counter() - began), 3),
                "trace": headers.get(b"traceparent", b"").decode("latin-1")[:55] or None,
                **notes,
            }
            _log.info("%s", json.dumps({key: value for key, value in line.items() if value is not None}))

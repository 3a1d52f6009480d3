"""An answerer as an ASGI application: routes, limits, and what becomes of an error.

The event loop only moves bytes. Parsing, answering and decoding happen in threads, as many at once as the
answerer runs side by side, and a bounded number of requests is in flight; one more is refused at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

import fastspan
from fastspan.errors import (
    Closed,
    DeadlineExceeded,
    FastSpanError,
    InputError,
    Overloaded,
    TooManyWindows,
)
from fastspan.serving.protocols.hugging_face import answer_as_hugging_face
from fastspan.serving.protocols.native import answer_natively
from fastspan.serving.protocols.request_body import Answerer, BodyProtocol, MalformedBodyError
from fastspan.serving.window_limit import LimitedAnswerer

__all__ = ["Limits", "Service"]

_log = logging.getLogger("fastspan.serving")

_LONGEST_MESSAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a service takes on.

    Attributes:
        concurrent_requests: Requests in flight at once, from the first byte of the body to the answer.
        payload_bytes: Largest body, in bytes.
        windows: The most windows that one request's question and context may make.
        body_seconds: How long a client may take to send a body.
    """

    concurrent_requests: int = 512
    payload_bytes: int = 2_000_000
    windows: int = 1000
    body_seconds: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise InputError(f"{field.name} must be more than 0, not {getattr(self, field.name)!r}.")


class PayloadTooLargeError(InputError):
    """The body of a request is larger than the limit."""


class BodyTimeoutError(InputError):
    """The body of a request took longer to arrive than the limit."""


# The first class that an error is an instance of decides on its status and type.
_STATUS: tuple[tuple[type[FastSpanError], int, str], ...] = (
    (MalformedBodyError, 400, "not_json"),
    (BodyTimeoutError, 408, "body_timeout"),
    (PayloadTooLargeError, 413, "too_large"),
    (TooManyWindows, 413, "too_many_windows"),
    (InputError, 422, "invalid"),
    (Overloaded, 429, "overloaded"),
    (Closed, 503, "unavailable"),
    (DeadlineExceeded, 503, "unavailable"),
    (FastSpanError, 500, "failed"),
)


class Service:
    """An answerer, its threads, and the ASGI application in front of them.

    Args:
        answerer: A ``QuestionAnswerer``; whoever loaded it closes it, after the service.
        limits: What the service takes on.

    Attributes:
        app: The application. When its lifespan ends, the service is closed.
        limits: As given.
    """

    def __init__(self, answerer: Answerer, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._answerer = LimitedAnswerer(answerer, self.limits.windows)
        info = answerer.info()
        # For latency, one run has all threads to itself: side by side, runs would only slow each other down.
        self._workers = ThreadPoolExecutor(info.workers, thread_name_prefix="fastspan-serve")
        self._in_flight = 0
        self._draining = False
        self.app = Starlette(
            routes=[
                Route("/", self._hugging_face, methods=["POST"]),
                Route("/answer", self._native, methods=["POST"]),
                Route("/health", self._health, methods=["GET"]),
                Route("/ready", self._ready, methods=["GET"]),
                Route("/info", self._info, methods=["GET"]),
            ],
            exception_handlers={
                FastSpanError: _own_error,
                HTTPException: _http_error,
                Exception: _unexpected_error,
            },
            lifespan=self._lifespan,
        )

    def drain(self) -> None:
        """Stop being ready, so that no more requests are sent here; those that come are still answered."""
        self._draining = True

    def close(self) -> None:
        """Drop what waits for a thread. The end of the application's lifespan does it, where it has one."""
        self.drain()
        self._workers.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.close()

    async def _hugging_face(self, request: Request) -> Response:
        return await self._answer(request, answer_as_hugging_face)

    async def _native(self, request: Request) -> Response:
        return await self._answer(request, answer_natively)

    async def _health(self, _: Request) -> Response:
        return _json({"status": "live"})

    async def _ready(self, _: Request) -> Response:
        if self._draining:
            return _error(503, "unavailable", "The service is shutting down; ask another one.")
        return _json({"status": "ready"})

    async def _info(self, _: Request) -> Response:
        info = self._answerer.info().to_dict()
        # Where the bundle lies on this machine is nobody's business outside it.
        del info["bundle"]
        return _json(
            {
                "fastspan": fastspan.__version__,
                **info,
                "max_concurrent_requests": self.limits.concurrent_requests,
                "payload_limit": self.limits.payload_bytes,
                "max_windows": self.limits.windows,
            }
        )

    async def _answer(self, request: Request, protocol: BodyProtocol) -> Response:
        if self._in_flight >= self.limits.concurrent_requests:
            raise Overloaded(
                f"{self._in_flight} requests are in flight, which is the limit: ask again in a moment, or "
                "start the service with a higher --max-concurrent-requests."
            )
        self._in_flight += 1
        try:
            body = await self._body(request)
            answered = asyncio.get_running_loop().run_in_executor(
                self._workers, protocol, self._answerer, body
            )
            return _json(await answered)
        except ClientDisconnect:
            # Nobody is left to read this; ASGI wants a response all the same.
            return _error(400, "disconnected", "The client went away before its body was complete.")
        finally:
            self._in_flight -= 1

    async def _body(self, request: Request) -> bytes:
        declared = request.headers.get("content-length", "")
        # Twenty digits are beyond any limit already; int() would refuse thousands of them.
        if declared.isdecimal() and int(declared[:20]) > self.limits.payload_bytes:
            raise self._too_large()
        try:
            return await asyncio.wait_for(self._received(request), self.limits.body_seconds)
        except asyncio.TimeoutError as error:
            raise BodyTimeoutError(
                f"The body was not complete after {self.limits.body_seconds:g} seconds: send it faster."
            ) from error

    async def _received(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.limits.payload_bytes:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"The body is larger than the limit of {self.limits.payload_bytes:,} bytes: split the context, "
            "or start the service with a higher --payload-limit."
        )


def _json(value: Any, status: int = 200) -> Response:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate, which UTF-8 cannot say, becomes the escape that JSON has for it.
    return Response(text.encode("utf-8", "backslashreplace"), status, media_type="application/json")


def _error(status: int, kind: str, message: str) -> Response:
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}…"
    return _json({"error": message, "error_type": kind}, status)


async def _own_error(request: Request, error: Exception) -> Response:
    status, kind = next((status, kind) for cls, status, kind in _STATUS if isinstance(error, cls))
    if status >= 500:
        _log.error("%s %s failed: %s", request.method, request.url.path, error, exc_info=error)
    response = _error(status, kind, str(error))
    if status == 429:
        response.headers["retry-after"] = "1"
    return response


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: an unknown path, or a method that a path does not have."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = (error.headers if isinstance(error, HTTPException) else None) or {}
    kind = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid")
    allowed = headers.get("Allow") or headers.get("allow")
    hint = f"use {allowed}" if allowed else "POST / and /answer; GET /health, /ready and /info"
    response = _error(status, kind, f"There is no {request.method} {request.url.path} here: {hint}.")
    response.headers.update(headers)
    return response


async def _unexpected_error(_: Request, __: Exception) -> Response:
    # The server logs the traceback; what it says may not be for everyone's eyes.
    return _error(500, "failed", "The service failed; its log says why.")

"""Errors as responses: each class of the tree has a status and a word for programs."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from fastspan.errors import (
    Closed,
    DeadlineExceeded,
    FastSpanError,
    InputError,
    Overloaded,
    TooManyWindows,
)
from fastspan.serving.hosted_bundles.hosted import TooManyPairsError
from fastspan.serving.protocols.request_body import MalformedBodyError

__all__ = [
    "STATUS",
    "BodyTimeoutError",
    "NotAllowedError",
    "PayloadTooLargeError",
    "UnknownBundleError",
    "error_body",
    "error_response",
    "json_response",
    "of_error",
    "of_router",
]

_LONGEST_MESSAGE = 1000


class PayloadTooLargeError(InputError):
    """The body of a request is larger than the limit."""


class BodyTimeoutError(InputError):
    """The body of a request took longer to arrive than the limit."""


class NotAllowedError(FastSpanError):
    """A request lacks a key that it needs."""


class UnknownBundleError(InputError):
    """A request names a bundle that is not served."""


STATUS: tuple[tuple[type[FastSpanError], int, str], ...] = (
    (MalformedBodyError, 400, "not_json"),
    (NotAllowedError, 401, "no_key"),
    (UnknownBundleError, 404, "not_found"),
    (BodyTimeoutError, 408, "body_timeout"),
    (PayloadTooLargeError, 413, "too_large"),
    (TooManyPairsError, 413, "too_many_pairs"),
    (TooManyWindows, 413, "too_many_windows"),
    (InputError, 422, "invalid"),
    (Overloaded, 429, "overloaded"),
    (Closed, 503, "unavailable"),
    (DeadlineExceeded, 504, "deadline"),
    (FastSpanError, 500, "failed"),
)
"""The first class that an error is an instance of decides on its status and type."""


def json_response(value: Any, status: int = 200) -> Response:
    """Return a value of built-in types as a response."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "backslashreplace"), status, media_type="application/json")


def error_body(kind: str, message: str) -> dict[str, str]:
    """Return what every error says: a sentence for people, a word for programs."""
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}…"
    return {"error": message, "error_type": kind}


def error_response(status: int, kind: str, message: str) -> Response:
    """Return an error as a response."""
    return json_response(error_body(kind, message), status)


def of_error(error: Exception) -> Response:
    """Return the response to an error of the tree; of any other, one that gives nothing away."""
    if not isinstance(error, FastSpanError):
        return error_response(500, "failed", "The service failed; its log says why.")
    status, kind = next((status, kind) for cls, status, kind in STATUS if isinstance(error, cls))
    response = error_response(status, kind, str(error))
    if isinstance(error, Overloaded):
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, NotAllowedError):
        response.headers["www-authenticate"] = "Bearer"
    return response


def of_router(method: str, path: str, error: Exception) -> Response:
    """Return the response to a path that is unknown, or does not have the method that it was asked with."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = (error.headers if isinstance(error, HTTPException) else None) or {}
    kind = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid")
    allowed = headers.get("Allow") or headers.get("allow")
    hint = f"use {allowed}" if allowed else "POST / and /answer; GET /health, /ready and /info"
    response = error_response(status, kind, f"There is no {method} {path} here: {hint}.")
    response.headers.update(headers)
    return response

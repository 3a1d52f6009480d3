"""Keys: who may ask. Compared in constant time, all of them, so that the time tells nothing."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from starlette.requests import Request

from fastspan.serving.http.responses import NotAllowedError

__all__ = ["check_key"]


def check_key(request: Request, keys: Sequence[str], what: str) -> None:
    """Refuse a request that has none of the keys, as ``Authorization: Bearer KEY``.

    Args:
        request: The request.
        keys: Those that open the route; none closes it.
        what: What they are called, for messages.

    Raises:
        NotAllowedError: It has none of them.
    """
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    offered = given.strip().encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else b""
    matches = [hmac.compare_digest(offered, key.encode()) for key in keys]
    if not any(matches):
        raise NotAllowedError(f"This route needs {what}: send it as 'Authorization: Bearer KEY'.")

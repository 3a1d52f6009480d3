"""Routes that are looked up by their path: those that answer, most requests by far, wait for no router."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fastspan.errors import FastSpanError
from fastspan.serving.http.responses import of_error

__all__ = ["DirectRoutes"]


class DirectRoutes:
    """Answers POST to some paths itself.

    Args:
        app: The application, which has these routes too: where it is mounted, paths begin with its own.
        routes: What answers, by path.
        error_of: Makes the response to an error of the tree.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Mapping[str, Callable[[Request], Awaitable[Response]]],
        error_of: Callable[[Request, Exception], Awaitable[Response]],
    ) -> None:
        self._app = app
        self._routes = routes
        self._error_of = error_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        answer = None
        if scope["type"] == "http" and scope["method"] == "POST" and not scope.get("root_path"):
            answer = self._routes.get(scope["path"])
        if answer is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await answer(request)
        except FastSpanError as error:
            response = await self._error_of(request, error)
        except Exception as error:
            await of_error(error)(scope, receive, send)
            # The server logs the traceback.
            raise
        await response(scope, receive, send)

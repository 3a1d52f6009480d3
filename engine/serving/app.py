"""Answerers as an ASGI application: its routes, its probes, and what it tells of itself.

The event loop only moves bytes: ``answering.py`` is a request's way. Parsing, encoding, runs and decoding
happen in threads (``hosted.py``). Who is let in is for ``admission.py``, what shares a run for
``dynamic_batching.py``, what a body says for ``protocols/``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import fastspan
from fastspan.errors import FastSpanError, InputError
from fastspan.serving.hosted_bundles.bundles import Bundles
from fastspan.serving.hosted_bundles.hosted import Answerer
from fastspan.serving.http.bodies import Bodies
from fastspan.serving.http.closing import ClosingWhileDraining
from fastspan.serving.http.direct_routes import DirectRoutes
from fastspan.serving.http.keys import check_key
from fastspan.serving.http.openapi import document, page
from fastspan.serving.http.responses import error_response, json_response, of_error, of_router
from fastspan.serving.observing.access_log import AccessLog
from fastspan.serving.observing.metrics import CONTENT_TYPE, Metrics
from fastspan.serving.observing.tracing import open_tracer
from fastspan.serving.page.files import page_response, page_routes, wants_html
from fastspan.serving.protocols.open_inference import model_metadata, server_metadata
from fastspan.serving.protocols.request_body import check_keys, json_object, parse_body
from fastspan.serving.scheduling.answering import TIMEOUT_HEADER, Answering, error_of
from fastspan.serving.scheduling.limits import Limits
from fastspan.serving.settings import Settings

__all__ = ["Service"]

_log = logging.getLogger("fastspan.serving")

_ROUTES = {
    "/": "hugging_face",
    "/answer": "native",
    "/read": "reading",
    "/bundles/{bundle}": "hugging_face",
    "/bundles/{bundle}/answer": "native",
    "/bundles/{bundle}/read": "reading",
    "/v2/models/{bundle}/infer": "open_inference",
    "/v2/models/{bundle}/versions/{version}/infer": "open_inference",
    "/invocations": "sagemaker",
    "/predict": "vertex",
    "/extract": "txtai",
}

# Runs that fail one after the other until the service gives up: one may be a request's fault, three are not.
_TOO_MANY_FAILURES = 3


class Service:
    """One or several answerers, their threads, and the ASGI application in front of them.

    Args:
        answerers: A ``QuestionAnswerer``, or several by the names that requests have for them; the first
            answers those that name none. Whoever loaded them closes them, after the service.
        limits: What the service takes on.
        settings: How it behaves.
        load: Loads a bundle anew by its name, for a hot swap; None: there is none.
        shadow: The name of the bundle that answers in the background too, to be compared.

    Attributes:
        app: The application. When its lifespan ends, the service is closed.
        limits: As given.
        settings: As given.
        metrics: What it counts.
        on_failure: Called once the model has failed too often; the server sets it.
    """

    def __init__(
        self,
        answerers: Answerer | Mapping[str, Answerer],
        limits: Limits | None = None,
        settings: Settings | None = None,
        *,
        load: Callable[[str], Answerer] | None = None,
        shadow: str | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.settings = settings or Settings()
        self.metrics = Metrics()
        self.on_failure: Callable[[], None] = lambda: None
        self._bodies = Bodies(self.limits)
        self._draining = False
        self._failed = False
        named = answerers if isinstance(answerers, Mapping) else {answerers.info().name: answerers}
        self.bundles = Bundles(
            named, self.limits, self.metrics, load=load, shadow=shadow, failed=self._run_failed
        )
        answering = Answering(
            self.limits,
            self.settings,
            self.metrics,
            self.bundles,
            self._bodies,
            open_tracer() if self.settings.tracing else None,
        )
        routes = self._routes = dict(_ROUTES)
        if self.settings.predict_route:
            routes[self.settings.predict_route] = "vertex"
        probes = ["/ready", "/ping", "/v2/health/ready"]
        if self.settings.health_route:
            probes.append(self.settings.health_route)
        answers = {path: answering.route(protocol) for path, protocol in routes.items()}
        inner = Starlette(
            routes=[
                *(Route(path, answer, methods=["POST"]) for path, answer in answers.items()),
                *(Route(path, self._ready, methods=["GET"]) for path in dict.fromkeys(probes)),
                *self._page_routes(),
                Route("/health", self._health, methods=["GET"]),
                Route("/v2/health/live", self._health, methods=["GET"]),
                Route("/info", self._info, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
                Route("/admin/reload", self._reload, methods=["POST"]),
                Route("/openapi.json", self._openapi, methods=["GET"]),
                Route("/docs", self._docs, methods=["GET"]),
                Route("/v2", self._v2, methods=["GET"]),
                Route("/v2/models/{bundle}", self._v2_model, methods=["GET"]),
                Route("/v2/models/{bundle}/ready", self._v2_model_ready, methods=["GET"]),
            ],
            exception_handlers={
                FastSpanError: error_of,
                HTTPException: self._http_error,
                Exception: self._unexpected_error,
            },
            lifespan=self._lifespan,
        )
        # A redirect would lead to whatever address the Host header names.
        inner.router.redirect_slashes = False
        direct = {path: answer for path, answer in answers.items() if "{" not in path}
        app: ASGIApp = DirectRoutes(inner, direct, error_of)
        if self.settings.cors_origins:
            app = CORSMiddleware(
                app,
                allow_origins=self.settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type", TIMEOUT_HEADER],
                expose_headers=["server-timing", "retry-after"],
            )
        if self.settings.access_log:
            app = AccessLog(app)
        self.app: ASGIApp = ClosingWhileDraining(app, lambda: self._draining)

    @property
    def draining(self) -> bool:
        """Whether the service was asked to stop."""
        return self._draining

    @property
    def failed(self) -> bool:
        """Whether the model has failed too often."""
        return self._failed

    def drain(self) -> None:
        """Stop being ready, so that no more requests are sent here; those that come are still answered."""
        self._draining = True

    def stop_at(self, moment: float) -> None:
        """Let no run go on after a moment, on ``time.monotonic``'s clock."""
        self.bundles.stop_at(moment)

    def close(self, *, wait: float = 0.0) -> None:
        """Refuse what waits, and wait at most so many seconds for the runs of each bundle."""
        self.drain()
        self._bodies.close()
        self.bundles.close(wait=wait)
        # The other processes of a service go on counting what this one has.
        self.metrics.settle()

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.close()

    def _run_failed(self, times: int) -> None:
        if times >= _TOO_MANY_FAILURES and not self._failed:
            self._failed = True
            _log.critical("%d runs in a row have failed: the service is not ready any more and stops.", times)
            self.on_failure()

    # Probes

    async def _health(self, _: Request) -> Response:
        return json_response({"status": "live"})

    async def _ready(self, _: Request) -> Response:
        if self._failed:
            return error_response(503, "failed", "The model fails; the service's log says why.")
        if self._draining:
            return error_response(503, "unavailable", "The service is shutting down; ask another one.")
        return json_response({"status": "ready"})

    async def _info(self, _: Request) -> Response:
        info = self.bundles.get(None).info().to_dict()
        # Where the bundle lies on this machine is nobody's business outside it.
        del info["bundle"]
        return json_response(
            {
                "fastspan": fastspan.__version__,
                **info,
                "bundles": self.bundles.describe(),
                "max_concurrent_requests": self.limits.concurrent_requests,
                "payload_limit": self.limits.payload_bytes,
                "max_windows": self.limits.windows,
                "max_pairs": self.limits.pairs,
                "default_timeout_ms": self.limits.timeout_ms,
            }
        )

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.exposition(), media_type=CONTENT_TYPE)

    def _page_routes(self) -> list[Route]:
        if not self.settings.page:
            return []
        return [Route("/", self._root, methods=["GET"]), *page_routes()]

    async def _root(self, request: Request) -> Response:
        if wants_html(request.headers.get("accept", "")):
            return page_response(request)
        known = {"fastspan": fastspan.__version__, "openapi": "openapi.json", "docs": "docs"}
        response = json_response(known)
        response.headers["vary"] = "accept"
        return response

    async def _v2(self, _: Request) -> Response:
        return json_response(server_metadata(fastspan.__version__))

    async def _v2_model(self, request: Request) -> Response:
        return json_response(model_metadata(self.bundles.get(request.path_params["bundle"]).name))

    async def _v2_model_ready(self, request: Request) -> Response:
        self.bundles.get(request.path_params["bundle"])
        return await self._ready(request)

    async def _openapi(self, _: Request) -> Response:
        return json_response(self._document())

    async def _docs(self, _: Request) -> Response:
        # Nothing is fetched, run or framed, wherever it comes from.
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        return HTMLResponse(page(self._document()), headers={"content-security-policy": policy})

    def _document(self) -> dict[str, Any]:
        return document(self._routes, fastspan.__version__, keyed=bool(self.settings.api_keys))

    async def _reload(self, request: Request) -> Response:
        check_key(request, self.settings.admin_keys, "an admin key, as --admin-key sets one")
        body = await self._bodies.receive(request)
        asked = json_object(parse_body(body) if body else {}, "the body")
        check_keys(asked, "the body", optional=("bundle",))
        name = asked.get("bundle")
        if not isinstance(name, str | None):
            raise InputError("bundle must be a string: the name of one that is served.")
        reloaded = await asyncio.to_thread(self.bundles.reload, name)
        return json_response({"reloaded": reloaded, "bundles": self.bundles.describe()})

    # Errors

    async def _http_error(self, request: Request, error: Exception) -> Response:
        return of_router(request.method, request.url.path, error)

    async def _unexpected_error(self, request: Request, error: Exception) -> Response:
        # The server logs the traceback; what it says may not be for everyone's eyes.
        return of_error(error)

"""Answerers as an ASGI application: its routes, and one request's way from the body to the response.

The event loop only moves bytes. Parsing, encoding, runs and decoding happen in threads (``hosted.py``). Who
is let in is for ``admission.py``, what shares a run for ``dynamic_batching.py``, what a body says for
``protocols/``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import fastspan
from fastspan.errors import DeadlineExceeded, FastSpanError, InputError, Overloaded
from fastspan.runtime.deadline import TOO_LATE
from fastspan.serving.access_log import AccessLog
from fastspan.serving.access_log import note as note_in_log
from fastspan.serving.admission import MemoryLimit, Slots
from fastspan.serving.bodies import Bodies
from fastspan.serving.bundles import Bundles
from fastspan.serving.hosted import Answerer, Hosted
from fastspan.serving.jobs import Job
from fastspan.serving.keys import check_key
from fastspan.serving.limits import Limits
from fastspan.serving.metrics import CONTENT_TYPE, Metrics
from fastspan.serving.openapi import document, page
from fastspan.serving.protocols.asked import Incoming, Protocol
from fastspan.serving.protocols.hugging_face import ask_as_hugging_face
from fastspan.serving.protocols.native import ask_natively
from fastspan.serving.protocols.open_inference import ask_as_open_inference, model_metadata, server_metadata
from fastspan.serving.protocols.reading import ask_to_read
from fastspan.serving.protocols.request_body import check_keys, json_object, parse_body
from fastspan.serving.protocols.sagemaker import ask_as_sagemaker
from fastspan.serving.protocols.txtai import ask_as_txtai
from fastspan.serving.protocols.vertex import ask_as_vertex
from fastspan.serving.responses import error_response, json_response, of_error
from fastspan.serving.settings import Settings
from fastspan.serving.tracing import Note, open_tracer

__all__ = ["PROTOCOLS", "TIMEOUT_HEADER", "Service"]

_log = logging.getLogger("fastspan.serving")

TIMEOUT_HEADER = "x-request-timeout-ms"

PROTOCOLS: Mapping[str, Protocol] = {
    "native": ask_natively,
    "reading": ask_to_read,
    "hugging_face": ask_as_hugging_face,
    "open_inference": ask_as_open_inference,
    "sagemaker": ask_as_sagemaker,
    "vertex": ask_as_vertex,
    "txtai": ask_as_txtai,
}
"""Each protocol by the name that metrics and logs have for it."""

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
        self._slots = Slots(self.limits.concurrent_requests, self.metrics.in_flight.set)
        self._memory = MemoryLimit(self.limits.memory_bytes)
        self._bodies = Bodies(self.limits)
        self._draining = False
        self._failed = False
        named = answerers if isinstance(answerers, Mapping) else {answerers.info().name: answerers}
        self.bundles = Bundles(
            named, self.limits, self.metrics, load=load, shadow=shadow, failed=self._run_failed
        )
        self._tracer = open_tracer() if self.settings.tracing else None
        routes = self._routes = dict(_ROUTES)
        if self.settings.predict_route:
            routes[self.settings.predict_route] = "vertex"
        probes = ["/ready", "/ping", "/v2/health/ready"]
        if self.settings.health_route:
            probes.append(self.settings.health_route)
        inner = Starlette(
            routes=[
                *(
                    Route(path, self._answering(protocol), methods=["POST"])
                    for path, protocol in routes.items()
                ),
                *(Route(path, self._ready, methods=["GET"]) for path in dict.fromkeys(probes)),
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
                FastSpanError: self._own_error,
                HTTPException: self._http_error,
                Exception: self._unexpected_error,
            },
            lifespan=self._lifespan,
        )
        # A redirect would lead to whatever address the Host header names.
        inner.router.redirect_slashes = False
        app: ASGIApp = inner
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
        self.app: ASGIApp = _ClosingWhileDraining(app, self)

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

    def close(self) -> None:
        """Refuse what waits. The end of the application's lifespan does it, where it has one."""
        self.drain()
        self._bodies.close()
        self.bundles.close()

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

    # Answers

    def _answering(self, protocol: str) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            if self.settings.api_keys:
                check_key(request, self.settings.api_keys, "a key")
            hosted = self.bundles.get(request.path_params.get("bundle"))
            began = time.monotonic()
            response: Response | None = None
            note_in_log(request.scope, protocol=protocol, bundle=hosted.name)
            try:
                if self._tracer is None:
                    response = await self._answer(request, protocol, hosted)
                else:
                    with self._tracer.request(f"POST {request.url.path}", request.headers) as note:
                        note(protocol=protocol, bundle=hosted.name)
                        response = await self._answer(request, protocol, hosted, note)
            except FastSpanError as error:
                self._count_refusal(error)
                response = await self._own_error(request, error)
            finally:
                self._observe(protocol, hosted.name, response, time.monotonic() - began)
            return response

        return answer

    async def _answer(
        self, request: Request, protocol: str, hosted: Hosted, note: Note | None = None
    ) -> Response:
        deadline = time.monotonic() + self._timeout(request)
        try:
            body = await self._bodies.receive(request)
        except ClientDisconnect:
            return self._nobody_left()
        self._memory.check()
        job = Job(deadline=deadline)
        incoming = Incoming(body=body, headers=request.headers, query=request.query_params.multi_items())
        name = request.path_params.get("bundle")
        with self._slots.one(hosted.retry_after()):
            self.bundles.start(name, job, PROTOCOLS[protocol], incoming)
            if not await self._outcome(request, job):
                return self._nobody_left()
        reply = job.future.result()
        self.metrics.observe_times(protocol, hosted.name, job.times)
        self._note(request, job, note)
        response = Response(reply.body, media_type=reply.media_type, headers=dict(reply.headers))
        response.headers["server-timing"] = ", ".join(
            f"{name};dur={milliseconds}" for name, milliseconds in job.times.milliseconds().items()
        )
        return response

    def _note(self, request: Request, job: Job, note: Note | None) -> None:
        """Put what a request cost into its line of the log and its span."""
        tokens, windows = job.all_tokens, len(job.windows)
        if note is not None:
            note(job.times, tokens=tokens, windows=windows)
        note_in_log(request.scope, tokens=tokens, windows=windows, **job.times.milliseconds())
        if self.settings.log_texts and job.asked is not None:
            note_in_log(request.scope, texts=list(job.asked.pairs))

    async def _outcome(self, request: Request, job: Job) -> bool:
        """Wait until a request is through; False: its client went away.

        Raises:
            DeadlineExceeded: Its time was over first.
        """
        through = asyncio.wrap_future(job.future)
        gone = asyncio.ensure_future(_gone(request))
        try:
            left = max(0.0, job.deadline - time.monotonic())
            await asyncio.wait((through, gone), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if through.done() and not through.cancelled():
                through.result()
                return True
            if gone.done():
                return False
            raise DeadlineExceeded(TOO_LATE)
        finally:
            gone.cancel()
            # Nobody waits any more: what has not run never does. Nothing happens where it is through.
            job.cancel()

    def _timeout(self, request: Request) -> float:
        """How long a request may take, in seconds."""
        text = request.headers.get(TIMEOUT_HEADER)
        if text is None:
            return self.limits.timeout_ms / 1000
        milliseconds = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
        if milliseconds < 1:
            raise InputError("X-Request-Timeout-Ms must be a whole number of milliseconds, at least 1.")
        return milliseconds / 1000

    def _nobody_left(self) -> Response:
        """Nobody is left to read this; ASGI wants a response all the same."""
        self.metrics.disconnected.inc()
        return error_response(499, "disconnected", "The client went away before its answer.")

    def _count_refusal(self, error: FastSpanError) -> None:
        if isinstance(error, Overloaded):
            self.metrics.rejected.labels(error.reason).inc()
        elif isinstance(error, DeadlineExceeded):
            self.metrics.rejected.labels("deadline").inc()

    def _observe(self, protocol: str, bundle: str, response: Response | None, seconds: float) -> None:
        status = "500" if response is None else str(response.status_code)
        self.metrics.requests.labels(protocol, bundle, status).inc()
        self.metrics.duration.labels(protocol, bundle).observe(seconds)

    # Errors

    async def _own_error(self, request: Request, error: Exception) -> Response:
        response = of_error(error)
        if response.status_code == 500:
            _log.error("%s %s failed: %s", request.method, request.url.path, error, exc_info=error)
        return response

    async def _http_error(self, request: Request, error: Exception) -> Response:
        """Answer what the router refuses: an unknown path, or a method that a path does not have."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = (error.headers if isinstance(error, HTTPException) else None) or {}
        kind = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid")
        allowed = headers.get("Allow") or headers.get("allow")
        hint = f"use {allowed}" if allowed else "POST / and /answer; GET /health, /ready and /info"
        response = error_response(
            status, kind, f"There is no {request.method} {request.url.path} here: {hint}."
        )
        response.headers.update(headers)
        return response

    async def _unexpected_error(self, request: Request, error: Exception) -> Response:
        # The server logs the traceback; what it says may not be for everyone's eyes.
        return of_error(error)


async def _gone(request: Request) -> None:
    """Return once the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _ClosingWhileDraining:
    """Tells every client, while the service drains, that its connection is closed behind this response."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and self._service.draining:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, sent if scope["type"] == "http" else send)

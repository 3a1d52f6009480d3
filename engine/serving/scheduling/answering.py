"""One request's way from its body to its response, and whatever may end it on the way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fastspan.errors import DeadlineExceeded, FastSpanError, InputError, Overloaded
from fastspan.runtime.deadline import TOO_LATE
from fastspan.serving.hosted_bundles.bundles import Bundles
from fastspan.serving.hosted_bundles.hosted import Hosted
from fastspan.serving.http.bodies import Bodies
from fastspan.serving.http.keys import check_key
from fastspan.serving.http.responses import error_response, of_error
from fastspan.serving.observing.access_log import note as note_in_log
from fastspan.serving.observing.access_log import noted as noted_in_log
from fastspan.serving.observing.metrics import Metrics
from fastspan.serving.observing.tracing import Note, Tracer
from fastspan.serving.protocols.asked import Incoming, Protocol
from fastspan.serving.protocols.hugging_face import ask_as_hugging_face
from fastspan.serving.protocols.native import ask_natively
from fastspan.serving.protocols.open_inference import ask_as_open_inference
from fastspan.serving.protocols.reading import ask_to_read
from fastspan.serving.protocols.sagemaker import ask_as_sagemaker
from fastspan.serving.protocols.txtai import ask_as_txtai
from fastspan.serving.protocols.vertex import ask_as_vertex
from fastspan.serving.scheduling.admission import MemoryLimit, Slots
from fastspan.serving.scheduling.jobs import Job
from fastspan.serving.scheduling.limits import Limits
from fastspan.serving.settings import Settings

__all__ = ["PROTOCOLS", "TIMEOUT_HEADER", "Answering", "error_of"]

_log = logging.getLogger("fastspan.serving")

TIMEOUT_HEADER = "x-request-timeout-ms"

# From then on it is noticed when a client goes away. Most answers are there before, and need no such task.
_UNWATCHED_S = 0.02

# How long what is noted for the metrics waits for more of it, for a core that runs the model has nothing of
# theirs at hand. Whoever asks this process for them finds it counted; other processes would not.
_SETTLE_S = 0.1

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


class Answering:
    """Answers requests of every protocol.

    Args:
        limits: What is taken on.
        settings: ``api_keys`` and ``log_texts`` are used.
        metrics: Where requests are counted.
        bundles: What answers.
        bodies: What receives bodies.
        tracer: What makes spans; None: nothing does.
    """

    def __init__(
        self,
        limits: Limits,
        settings: Settings,
        metrics: Metrics,
        bundles: Bundles,
        bodies: Bodies,
        tracer: Tracer | None,
    ) -> None:
        self._limits = limits
        self._settings = settings
        self._metrics = metrics
        self._bundles = bundles
        self._bodies = bodies
        self._tracer = tracer
        self._slots = Slots(limits.concurrent_requests, metrics.in_flight.set)
        self._memory = MemoryLimit(limits.memory_bytes)
        self._to_settle = False

    def route(self, protocol: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers the requests of a route.

        Args:
            protocol: Which of ``PROTOCOLS`` they speak.
        """

        async def answer(request: Request) -> Response:
            if self._settings.api_keys:
                check_key(request, self._settings.api_keys, "a key")
            hosted = self._bundles.get(request.path_params.get("bundle"))
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
                response = await error_of(request, error)
            finally:
                status = 500 if response is None else response.status_code
                self._metrics.observe_request(protocol, hosted.name, status, time.monotonic() - began)
                self._settle_soon()
            return response

        return answer

    def _settle_soon(self) -> None:
        """Count what is noted once the response is on its way; where it can wait, with what comes next."""
        if not self._to_settle:
            self._to_settle = True
            delay = 0.0 if self._metrics.shared else _SETTLE_S
            asyncio.get_running_loop().call_later(delay, self._settle)

    def _settle(self) -> None:
        self._to_settle = False
        self._metrics.settle()

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
        query = request.query_params.multi_items() if request.scope["query_string"] else ()
        incoming = Incoming(body=body, headers=request.headers, query=query)
        name = request.path_params.get("bundle")
        with self._slots.one(hosted.retry_after):
            waiting = _PendingAnswer(request, job)
            try:
                # A thread has it from here on, and waits for Python's lock as long as this one keeps it.
                self._bundles.start(name, job, PROTOCOLS[protocol], incoming)
                if not await waiting.outcome():
                    return self._nobody_left()
            finally:
                waiting.stop()
        reply = job.future.result()
        self._metrics.observe_times(protocol, hosted.name, job.times)
        if note is not None or noted_in_log(request.scope):
            self._note(request, job, note)
        headers = {**reply.headers, "server-timing": job.times.server_timing()}
        return Response(reply.body, media_type=reply.media_type, headers=headers)

    def _note(self, request: Request, job: Job, note: Note | None) -> None:
        """Put what a request cost into its line of the log and its span."""
        tokens, windows = job.all_tokens, len(job.windows)
        if note is not None:
            note(job.times, tokens=tokens, windows=windows)
        note_in_log(request.scope, tokens=tokens, windows=windows, **job.times.milliseconds())
        if self._settings.log_texts and job.asked is not None:
            note_in_log(request.scope, texts=list(job.asked.pairs))

    def _timeout(self, request: Request) -> float:
        """How long a request may take, in seconds."""
        text = request.headers.get(TIMEOUT_HEADER)
        if text is None:
            return self._limits.timeout_ms / 1000
        milliseconds = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
        if milliseconds < 1:
            raise InputError("X-Request-Timeout-Ms must be a whole number of milliseconds, at least 1.")
        return milliseconds / 1000

    def _nobody_left(self) -> Response:
        """Nobody is left to read this; ASGI wants a response all the same."""
        self._metrics.disconnected.inc()
        return error_response(499, "disconnected", "The client went away before its answer.")

    def _count_refusal(self, error: FastSpanError) -> None:
        if isinstance(error, Overloaded):
            self._metrics.rejected.labels(error.reason).inc()
        elif isinstance(error, DeadlineExceeded):
            self._metrics.rejected.labels("deadline").inc()


async def error_of(request: Request, error: Exception) -> Response:
    """Return the response to an error of the tree; one of the model's is logged."""
    response = of_error(error)
    if response.status_code == 500:
        _log.error("%s %s failed: %s", request.method, request.url.path, error, exc_info=error)
    return response


class _PendingAnswer:
    """Waits for an answer, until its time is over or its client goes away.

    Args:
        request: The request.
        job: What is waited for. It is cancelled once nobody waits any more.
    """

    def __init__(self, request: Request, job: Job) -> None:
        self._request = request
        self._job = job
        self._expired = self._gone = False
        self._watching: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[None] = self._loop.create_future()
        # It holds no more than it needs: what a request leaves behind must not wait for the collector of
        # cycles, which stops all threads.
        job.future.add_done_callback(partial(_arrives, self._loop, self._answer))
        # One timer for both: most answers are there before, and a timer costs something too.
        left = job.deadline - time.monotonic()
        self._timer = self._loop.call_later(max(0.0, min(left, _UNWATCHED_S)), self._passes)

    async def outcome(self) -> bool:
        """Wait until the request is through, well or not; False: its client went away.

        Raises:
            DeadlineExceeded: Its time was over first.
        """
        try:
            await self._answer
            return True
        except asyncio.CancelledError:
            if self._gone:
                return False
            if self._expired:
                raise DeadlineExceeded(TOO_LATE) from None
            raise

    def stop(self) -> None:
        """Wait no more: what has not run never does. Nothing happens where it is through."""
        self._timer.cancel()
        self._answer.cancel()
        if self._watching is not None:
            self._watching.cancel()
            # What it was cancelled in holds this.
            self._watching = None
        self._job.cancel()

    def _passes(self) -> None:
        """Time passes: begin to notice when the client goes away, and give up at the deadline."""
        left = self._job.deadline - time.monotonic()
        if left <= 0:
            self._expired = self._answer.cancel()
            return
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())
        self._timer = self._loop.call_later(left, self._passes)

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._gone = self._answer.cancel()


def _arrives(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[None], _: object) -> None:
    """A request is through, says the thread that is through with it."""
    # Where nobody waits any more, the loop may be gone.
    if not answer.done() and not loop.is_closed():
        loop.call_soon_threadsafe(_wake, answer)


def _wake(answer: asyncio.Future[None]) -> None:
    """Let who waits for it go on."""
    if not answer.done():
        answer.set_result(None)

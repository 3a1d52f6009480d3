"""Requests as spans of OpenTelemetry, children of the caller's ``traceparent``. The extra is ``otel``.

Where to send them is for OpenTelemetry's own environment variables to say (``OTEL_EXPORTER_OTLP_ENDPOINT``
and so on), as for every program that reports to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastspan.errors import MissingDependency
from fastspan.serving.protocols.asked import Times

__all__ = ["Tracer", "open_tracer"]

Note = Callable[..., None]
"""Adds attributes to the span of the request, and, as ``times``, the stages."""


class Tracer:
    """Makes a span of each request.

    Args:
        tracer: OpenTelemetry's tracer.
        extract: Reads the caller's context out of headers.
    """

    def __init__(self, tracer: Any, extract: Callable[[Mapping[str, str]], Any]) -> None:
        self._tracer = tracer
        self._extract = extract

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator[Note]:
        """Make a span of what happens within."""
        with self._tracer.start_as_current_span(name, context=self._extract(headers)) as span:

            def note(times: Times | None = None, **attributes: Any) -> None:
                for key, value in attributes.items():
                    span.set_attribute(f"fastspan.{key}", value)
                if times is not None:
                    for stage, milliseconds in times.milliseconds().items():
                        span.set_attribute(f"fastspan.{stage}_ms", milliseconds)

            yield note


def open_tracer() -> Tracer:
    """Return a tracer that reports where OpenTelemetry's environment variables say.

    Raises:
        MissingDependency: The extra is not installed.
    """
    try:
        from opentelemetry import propagate, trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"Tracing needs {error.name}, which is not installed: run pip install 'fastspan[otel]'."
        ) from error
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracer(provider.get_tracer("fastspan"), propagate.extract)

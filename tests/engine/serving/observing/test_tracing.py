"""Requests as spans of OpenTelemetry: what they say, whose children they are, and what says it is missing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fastspan import MissingDependency, QuestionAnswerer
from support.serving.http_service import PAIR, ask, refused, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Service, Settings
from fastspan.serving import app as app_module
from fastspan.serving.observing.tracing import Tracer

TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"


@pytest.fixture
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as loaded:
        yield loaded


class Recorder:
    """Stands in for OpenTelemetry's tracer."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def start_as_current_span(self, name: str, context: Any) -> Iterator[Any]:
        span: dict[str, Any] = {"name": name, "context": context}
        self.spans.append(span)

        class Span:
            set_attribute = staticmethod(span.__setitem__)

        yield Span()


def test_a_request_is_a_span_of_its_caller(qa: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()

    def extract(headers: Mapping[str, str]) -> Any:
        return headers.get("traceparent")

    monkeypatch.setattr(app_module, "open_tracer", lambda: Tracer(recorder, extract))
    with serving(Service(qa, settings=Settings(tracing=True))) as port:
        assert ask(port, "POST", "/answer", PAIR, Traceparent=TRACE)[0] == 200
        refused(port, "/answer", {}, 422, "invalid")
    first, second = recorder.spans
    assert (first["name"], first["context"]) == ("POST /answer", TRACE)
    assert first["fastspan.protocol"] == "native"
    assert first["fastspan.windows"] == 1
    assert first["fastspan.run_ms"] > 0
    assert second["context"] is None
    assert "fastspan.windows" not in second


def test_the_true_tracer_keeps_the_callers_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    propagate = pytest.importorskip("opentelemetry.propagate")
    exporter = memory.InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    tracer = Tracer(provider.get_tracer("fastspan"), propagate.extract)
    with tracer.request("POST /answer", {"traceparent": TRACE}) as note:
        note(windows=3)
    (span,) = exporter.get_finished_spans()
    assert format(span.context.trace_id, "032x") == "1" * 32
    assert format(span.parent.span_id, "016x") == "2" * 16
    assert span.attributes["fastspan.windows"] == 3


def test_without_the_extra_one_sentence_says_how_to_get_it(
    qa: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingDependency, match=r"pip install 'fastspan\[otel\]'"):
        Service(qa, settings=Settings(tracing=True))

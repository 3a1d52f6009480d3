"""What the service counts, measures and watches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastspan import Answer, Prediction, QuestionAnswerer
from support.paths import ROOT
from support.serving.http_service import LONG_CONTEXT, PAIR, ask, raw, refused, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Limits, Service
from fastspan.serving.observing.metrics import Metrics


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as loaded:
        yield loaded


def values(port: int) -> dict[str, float]:
    """Every sample, by name and labels."""
    text = raw(port, "GET", "/metrics")[2].decode()
    return {name: float(value) for name, value in re.findall(r"^(fastspan_[^ ]+) (\S+)$", text, re.MULTILINE)}


def test_a_request_is_counted_and_its_stages_are_measured(qa: QuestionAnswerer) -> None:
    with serving(Service(qa, Limits(windows=50))) as port:
        ask(port, "POST", "/answer", PAIR)
        _, found = ask(
            port, "POST", "/answer", {**PAIR, "context": LONG_CONTEXT, "max_length": 64, "overlap": 8}
        )
        assert found["answers"]
        refused(port, "/answer", {"question": ""}, 422, "invalid")
        seen = values(port)
        both = '{bundle="tiny-qa",protocol="native"}'
        assert seen['fastspan_requests_total{bundle="tiny-qa",protocol="native",status="200"}'] == 2
        assert seen['fastspan_requests_total{bundle="tiny-qa",protocol="native",status="422"}'] == 1
        assert seen[f"fastspan_request_seconds_count{both}"] == 3
        for stage in ("encode", "queue", "run", "decode"):
            assert seen[f"fastspan_{stage}_seconds_count{both}"] == 2
            assert seen[f"fastspan_{stage}_seconds_sum{both}"] > 0
        windows = seen['fastspan_batch_windows_sum{bundle="tiny-qa"}']
        assert windows > 10
        assert seen['fastspan_batch_tokens_sum{bundle="tiny-qa"}'] > 10 * windows
        assert seen['fastspan_null_score_count{bundle="tiny-qa"}'] == 2
        answers = [
            seen.get(f'fastspan_answers_total{{answered="{word}",bundle="tiny-qa"}}', 0)
            for word in ("yes", "no")
        ]
        assert sum(answers) == 2
        assert seen['fastspan_tokens_per_second{bundle="tiny-qa"}'] > 0
        assert seen["fastspan_in_flight_requests"] == 0
        assert seen['fastspan_queue_requests{bundle="tiny-qa"}'] == 0


def prediction(margin: float, confidence: float | None = 0.5) -> Prediction:
    answer = Answer(text="a", start=0, end=1, score=0.0)
    return Prediction(
        answer=answer, answers=(answer,), confidence=confidence, null_score=margin, best_span_score=0.0
    )


def drift(metrics: Metrics) -> float | None:
    found = re.search(rb'fastspan_drift\{bundle="b"\} (\S+)', metrics.exposition())
    return float(found[1]) if found else None


def test_drift_is_how_far_the_confidences_lie_from_the_calibrations() -> None:
    metrics = Metrics()
    metrics.watch("b", lambda: 0, [0] * 5 + [1] + [0] * 4)
    metrics.observe_answers("b", [prediction(0.0, 0.55) for _ in range(499)])
    assert drift(metrics) is None
    metrics.observe_answers("b", [prediction(0.0, 0.95)])
    assert drift(metrics) == pytest.approx(1 / 500)
    metrics.observe_answers("b", [prediction(0.0, 0.95) for _ in range(500)])
    assert drift(metrics) == 1


def test_a_bundle_that_takes_anothers_place_begins_anew() -> None:
    metrics = Metrics()
    metrics.watch("b", lambda: 0, [1] + [0] * 9)
    metrics.observe_answers("b", [prediction(0.0, 0.95) for _ in range(500)])
    metrics.watch("b", lambda: 0, [0] * 9 + [1])
    metrics.observe_answers("b", [prediction(0.0, 0.95) for _ in range(500)])
    assert drift(metrics) == 0


def test_without_a_calibration_drift_is_how_far_the_margins_have_moved() -> None:
    metrics = Metrics()
    for margin in (0.0, 0.0, -9.0):
        metrics.observe_answers("b", [prediction(margin, None) for _ in range(500)])
        metrics.observe_answers("b", [prediction(float("-inf"), None)])
    # Of the latest 500, one is of the wave before.
    assert drift(metrics) == pytest.approx(1, abs=0.01)


def test_confidence_is_counted_where_there_is_one() -> None:
    metrics = Metrics()
    metrics.observe_answers("b", [prediction(0.0, None), prediction(0.0, 0.96)])
    assert b'fastspan_confidence_count{bundle="b"} 1.0' in metrics.exposition()


def test_the_documentation_names_every_metric() -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    named = re.findall(
        r"^# TYPE (fastspan_\S+) (?:counter|gauge|histogram)", Metrics().exposition().decode(), re.M
    )
    assert len(named) > 15
    assert [name for name in named if not name.endswith("_created") and f"`{name}`" not in text] == []


def test_what_is_noted_is_counted_whoever_looks_and_does_not_pile_up() -> None:
    metrics = Metrics()
    for _ in range(2000):
        metrics.observe_request("native", "b", 200, 0.1)
        assert len(metrics._noted) <= 500
    text = metrics.exposition().decode()
    assert 'fastspan_requests_total{bundle="b",protocol="native",status="200"} 2000.0' in text


def test_who_looks_is_told_how_many_wait_now() -> None:
    metrics, waiting = Metrics(), [3, 0]
    metrics.watch("b", lambda: waiting.pop(0), None)
    assert b'fastspan_queue_requests{bundle="b"} 3.0' in metrics.exposition()
    assert b'fastspan_queue_requests{bundle="b"} 0.0' in metrics.exposition()

"""Stages of an answer: how long each takes, and how few frames lie before ONNX Runtime."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

import fastspan
from fastspan import LoadOptions, QuestionAnswerer
from fastspan.loading import load_bundle
from fastspan.runtime.session import Logits, Session
from fastspan.stage_times import StageClock, stage_times
from fastspan.text.encoder import Window

QUESTION = "who built the tower"
CONTEXT = "the norse leader rollo built the stone tower by the river in the year of snow"
LONG = f"{CONTEXT} " * 80


@pytest.fixture(params=["latency", "throughput"])
def qa(request: pytest.FixtureRequest, tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", optimize_for=request.param, threads=2) as loaded:
        yield loaded


def test_every_stage_is_timed_once_asked_for(qa: QuestionAnswerer) -> None:
    for ask in (lambda: qa.answer(QUESTION, LONG), lambda: list(qa.answer_many([(QUESTION, LONG)] * 3))):
        with stage_times() as times:
            ask()
        assert all(seconds > 0 for seconds in asdict(times).values())
        before = asdict(times)
        ask()
        assert asdict(times) == before


def test_a_stage_gets_what_passes_between_two_laps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([1.0, 1.5, 3.5, 4.0])
    monkeypatch.setattr("fastspan.stage_times.time.perf_counter", lambda: next(now))
    with stage_times() as times:
        clock = StageClock()
        clock.lap("encode")
        clock.lap("run")
        clock.lap("encode")
    assert asdict(times) == {"encode": 1.0, "plan": 0.0, "run": 2.0, "decode": 0.0}


def test_other_threads_and_outer_measurements_are_left_alone(qa: QuestionAnswerer) -> None:
    with stage_times() as outer:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(qa.answer, QUESTION, CONTEXT).result()
        with stage_times() as inner:
            qa.answer(QUESTION, CONTEXT)
    assert inner.run > 0
    assert outer.run == 0


@pytest.mark.parametrize("context", [CONTEXT, LONG])
def test_three_hops_lead_from_the_call_to_onnx_runtime(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, context: str
) -> None:
    real = onnxruntime.InferenceSession.run
    hops: list[list[str]] = []
    package = Path(fastspan.__file__).resolve().parent

    def is_ours(file: str) -> bool:
        return Path(file).resolve().is_relative_to(package)

    def run(self: Any, *arguments: Any, **named: Any) -> Any:
        hops.append([frame.name for frame in traceback.extract_stack() if is_ours(frame.filename)])
        return real(self, *arguments, **named)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", run)
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", threads=2) as qa:
        qa.answer(QUESTION, context)
    assert hops
    for names in hops:
        assert len(names[names.index("answer") :]) <= 3, names


class Scripted:
    """A session that somebody else wrote."""

    def __init__(self, session: Session) -> None:
        self.graph, self.settings, self.shared_with_cpu = session.graph, session.settings, ""
        self.providers, self.out_of_memory_retries = ("MyOwnProvider",), 7
        self.asked = 0
        self._session = session

    def run(self, windows: Sequence[Window], *, deadline: float | None = None) -> tuple[Logits, Logits]:
        self.asked += len(windows)
        start, end = self._session.run(windows, deadline=deadline)
        return end, start


def test_a_session_of_ones_own_may_be_put_in(tiny_bundle: Path) -> None:
    loaded = load_bundle(tiny_bundle, None, LoadOptions(variant="fp32", threads=1))
    scripted = Scripted(loaded.session)
    with QuestionAnswerer(replace(loaded, session=scripted)) as qa:
        assert qa.answer(QUESTION, CONTEXT).null_score == pytest.approx(
            QuestionAnswerer(loaded).answer(QUESTION, CONTEXT).null_score
        )
        assert scripted.asked == 1
        assert qa.info().providers == ("MyOwnProvider",)
        assert qa.info().out_of_memory_retries == 7

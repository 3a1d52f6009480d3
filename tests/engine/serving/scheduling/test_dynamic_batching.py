"""The queue before the model: what shares a run, whose turn it is, and what never runs."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastspan import DeadlineExceeded, InferenceError, Overloaded
from fastspan.runtime.batching import plan_packed
from support.serving.http_service import CONTEXT, LONG_CONTEXT, QUESTION, WAIT, ask, scripted, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.errors import Closed
from fastspan.serving import Limits, Service
from fastspan.serving.scheduling.dynamic_batching import Batcher
from fastspan.serving.scheduling.jobs import Job

BUDGET = 100


class Gate:
    """A model whose runs begin one by one, as they are let in."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        self.deadlines: list[float] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.fault: BaseException | None = None

    def run(self, windows: Sequence[Any], *, deadline: float) -> tuple[Any, Any]:
        self.runs.append([window.name for window in windows])
        self.deadlines.append(deadline)
        self.begun.release()
        assert self.may_end.acquire(timeout=WAIT)
        if self.fault is not None:
            raise self.fault
        width = max(len(window.input_ids) for window in windows)
        return np.zeros((len(windows), width)), np.ones((len(windows), width))


def job(name: str, *lengths: int, seconds: float = 60.0) -> Job:
    windows = [SimpleNamespace(name=name, input_ids=[0] * length) for length in lengths]
    made = Job(deadline=time.monotonic() + seconds)
    made.encoded([SimpleNamespace(windows=windows)])  # type: ignore[list-item]
    return made


class Rig:
    """A batcher of one thread before a gate."""

    def __init__(self, longest_wait: float = 60.0, count: int = 1, alone: int = 1) -> None:
        self.gate = Gate()
        self.observed: list[float] = []
        self.finished: list[Job] = []
        self.failures: list[int] = []
        stages: Any = SimpleNamespace(
            loaded=SimpleNamespace(session=self.gate),
            share=plan_packed,
            run_tokens=BUDGET,
        )
        self.batcher = Batcher(
            stages,
            count,
            self.finished.append,
            longest_wait=longest_wait,
            alone=alone,
            observe=lambda _, seconds: self.observed.append(seconds),
            failed=self.failures.append,
        )

    def begin(self, first: Job) -> None:
        """Submit a request, and return once it runs."""
        self.batcher.submit(first)
        assert self.gate.begun.acquire(timeout=WAIT)

    def end(self, runs: int = 1) -> None:
        """Let runs end, and wait for those that begin next."""
        for _ in range(runs):
            self.gate.may_end.release()
            assert self.gate.begun.acquire(timeout=WAIT)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.gate.may_end.release(100)
    made.batcher.close(wait=60)


def until(condition: Any) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_lone_request_waits_for_no_company(rig: Rig) -> None:
    alone = job("alone", 40)
    rig.begin(alone)
    assert rig.gate.runs == [["alone"]]
    rig.gate.may_end.release()
    until(lambda: rig.finished == [alone])
    assert not any(start.any() for start in alone.starts if start is not None)
    assert [len(end) for end in alone.ends if end is not None] == [40]


def test_a_run_that_had_all_threads_counts_as_what_it_takes_beside_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(count=2, alone=2)
    taken: list[float] = []
    monkeypatch.setattr(rig.batcher.pace, "measured", lambda _, seconds: taken.append(seconds))
    rig.begin(job("alone", 40))
    rig.begin(job("beside", 40))
    for runs in (1, 2):
        rig.gate.may_end.release()
        until(lambda: len(taken) == runs)  # noqa: B023 - it is called here
    rig.batcher.close(wait=60)
    assert sorted(made / seen for made, seen in zip(taken, rig.observed, strict=True)) == [1, 2]


def test_who_submits_may_run_a_batch_where_no_more_than_are_allowed_run(rig: Rig) -> None:
    lone, second = job("lone", 40), job("second", 40)
    rig.gate.may_end.release()
    rig.batcher.submit(lone, run=True)
    # In this thread: it has run when this returns.
    assert rig.finished == [lone]
    assert rig.gate.begun.acquire(blocking=False)
    rig.begin(job("first", 100))
    rig.batcher.submit(second, run=True)
    assert rig.gate.runs == [["lone"], ["first"]]
    rig.gate.may_end.release(2)
    until(lambda: second in rig.finished)


def test_what_whoever_submits_leaves_is_run_by_others(rig: Rig) -> None:
    long = job("long", *[100] * 3)
    rig.gate.may_end.release(3)
    rig.batcher.submit(long, run=True)
    until(lambda: rig.finished == [long])
    assert rig.gate.runs == [["long"]] * 3


def test_requests_that_wait_share_a_run_up_to_its_tokens(rig: Rig) -> None:
    rig.begin(job("first", 90))
    for name in "abcd":
        rig.batcher.submit(job(name, 30))
    rig.end(2)
    assert rig.gate.runs == [["first"], ["a", "b", "c"], ["d"]]


def learned(rig: Rig, fixed: float, each: float) -> None:
    """Let the batcher know what runs cost: beside their tokens, and by them."""
    chosen = random.Random(0)
    for tokens in (chosen.randrange(10, 110) for _ in range(2000)):
        rig.batcher.pace.measured([tokens], fixed + each * tokens)


def test_where_company_makes_runs_no_faster_windows_run_alone(rig: Rig) -> None:
    learned(rig, 0.0, 0.001)
    rig.begin(job("first", 90))
    for name in "abc":
        rig.batcher.submit(job(name, 30))
    rig.end(3)
    assert rig.gate.runs == [["first"], ["a"], ["b"], ["c"]]


def test_company_is_as_large_as_it_makes_runs_faster(rig: Rig) -> None:
    # From 75 tokens on no more than a part in 32 of a run's time is what it costs beside them.
    learned(rig, 2.4, 1.0)
    rig.begin(job("first", 90, seconds=9000))
    for name in "abcd":
        rig.batcher._lines.add(job(name, 30, seconds=9000))
    rig.end(2)
    assert rig.gate.runs == [["first"], ["a", "b"], ["c", "d"]]


def test_company_makes_nobody_late(rig: Rig) -> None:
    learned(rig, 10.0, 1.0)
    rig.begin(job("first", 90, seconds=1000))
    # With one of the others it would be through after 70 seconds, with both after 100.
    for one in (job("hurried", 30, seconds=80), job("b", 30, seconds=1000), job("c", 30, seconds=1000)):
        rig.batcher._lines.add(one)
    rig.end(2)
    assert rig.gate.runs == [["first"], ["hurried", "b"], ["c"]]


def test_a_request_under_way_that_would_be_late_goes_first(rig: Rig) -> None:
    learned(rig, 0.0, 1.0)
    rig.begin(job("hurried", *[90] * 3, seconds=280))
    for one in (job("a", 90, seconds=9000), job("b", 90, seconds=9000)):
        rig.batcher._lines.add(one)
    rig.end(4)
    assert rig.gate.runs == [["hurried"], ["hurried"], ["hurried"], ["a"], ["b"]]


def test_a_request_that_cannot_be_in_time_any_more_takes_its_turn(rig: Rig) -> None:
    learned(rig, 0.0, 1.0)
    rig.begin(job("late", *[90] * 3, seconds=50))
    for one in (job("a", 90, seconds=9000), job("b", 90, seconds=9000)):
        rig.batcher._lines.add(one)
    rig.end(4)
    assert rig.gate.runs == [["late"], ["late"], ["a"], ["late"], ["b"]]


def test_of_a_run_under_way_only_the_rest_is_waited_for(rig: Rig) -> None:
    rig.batcher.pace.measured([100], 1000.0)
    rig.begin(job("first", 100, seconds=9000))
    assert 90 <= rig.batcher.waiting().running <= 100
    rig.batcher.pace.measured([10**9], 1.0)
    # It should be through.
    until(lambda: not rig.batcher.waiting().running)


def test_those_that_are_being_encoded_are_waited_for_too(rig: Rig) -> None:
    rig.batcher.pace.measured([100], 10.0)
    rig.begin(job("first", 100))
    coming = Job(deadline=time.monotonic() + 1000, expected_tokens=700)
    rig.batcher.expect(coming)
    with pytest.raises(Overloaded, match="1 requests wait"):
        rig.batcher.expect(Job(deadline=time.monotonic() + 1000))
    rig.batcher.forget(coming)
    rig.batcher.expect(Job(deadline=time.monotonic() + 1000))


def test_long_requests_under_way_delay_a_short_one_by_one_run(rig: Rig) -> None:
    rig.begin(job("long", *[100] * 6))
    rig.batcher.submit(job("other", *[100] * 6))
    rig.end(3)
    rig.batcher.submit(job("short", 100))
    rig.end(2)
    # One was under way when it came, and one more may have had its turn.
    assert ["short"] in rig.gate.runs[-2:]
    assert rig.gate.runs.count(["other"]) >= 1


def test_short_requests_do_not_starve_a_long_one(rig: Rig) -> None:
    rig.begin(job("long", *[100] * 4))
    for number in range(6):
        rig.batcher.submit(job(f"short{number}", 100))
    rig.end(6)
    assert [name for run in rig.gate.runs for name in run].count("long") == 4


def test_what_nobody_waits_for_never_runs(rig: Rig) -> None:
    rig.begin(job("first", 100))
    left, late, wanted = job("left", 100), job("late", 100, seconds=0.01), job("wanted", 100)
    for one in (left, late, wanted):
        rig.batcher.submit(one)
    left.cancel()
    until(lambda: time.monotonic() > late.deadline)
    rig.end()
    assert rig.gate.runs == [["first"], ["wanted"]]
    with pytest.raises(DeadlineExceeded):
        late.future.result(WAIT)


def test_a_long_request_that_is_given_up_stops_at_its_next_slice(rig: Rig) -> None:
    long = job("long", *[100] * 50)
    rig.begin(long)
    long.cancel()
    rig.batcher.submit(job("next", 100))
    rig.end()
    assert rig.gate.runs == [["long"], ["next"]]
    rig.gate.may_end.release()
    until(lambda: not rig.batcher.waiting().in_all)
    assert len(rig.gate.runs) == 2


def test_a_run_ends_when_nobody_waits_for_any_of_it(rig: Rig) -> None:
    rig.begin(job("first", 100))
    hurried, patient = job("hurried", 50, seconds=5), job("patient", 50, seconds=50)
    rig.batcher.submit(hurried)
    rig.batcher.submit(patient)
    rig.end()
    assert rig.gate.deadlines[-1] == patient.deadline
    stop = time.monotonic() + 1
    rig.batcher.stop_at(stop)
    rig.batcher.submit(job("last", 50, seconds=50))
    rig.end()
    assert rig.gate.deadlines[-1] == stop


def test_who_waited_too_long_is_refused_before_it_runs() -> None:
    rig = Rig(longest_wait=0.05)
    rig.begin(job("first", 100))
    old = job("old", 100)
    old.arrived -= 1
    rig.batcher.submit(old)
    rig.batcher.submit(job("young", 100))
    rig.gate.may_end.release()
    with pytest.raises(Overloaded, match="waited 1") as refused:
        old.future.result(WAIT)
    assert refused.value.retry_after > 0
    rig.gate.may_end.release(10)
    rig.batcher.close(wait=60)
    assert ["old"] not in rig.gate.runs


def test_who_was_let_in_stays_for_a_little_longer_than_was_estimated() -> None:
    rig = Rig(longest_wait=60)
    rig.begin(job("first", 100))
    old = job("old", 100)
    old.arrived -= 90
    rig.batcher.submit(old)
    rig.end()
    assert rig.gate.runs == [["first"], ["old"]]
    rig.gate.may_end.release()
    until(lambda: old in rig.finished)
    rig.batcher.close(wait=60)


def test_a_failing_run_reaches_all_who_wait_for_it_and_no_other(rig: Rig) -> None:
    rig.begin(job("first", 100))
    together = [job(name, 30) for name in "abc"]
    apart = job("apart", 100)
    for one in (*together, apart):
        rig.batcher.submit(one)
    rig.end()
    rig.gate.fault = RuntimeError("out of luck")
    rig.end()
    rig.gate.fault = None
    for one in together:
        with pytest.raises(InferenceError, match="out of luck"):
            one.future.result(WAIT)
    rig.gate.may_end.release()
    until(lambda: apart in rig.finished)
    assert rig.failures == [1]


def test_failures_in_a_row_are_counted_anew_after_a_success(rig: Rig) -> None:
    for fault in (RuntimeError(), RuntimeError(), None, RuntimeError()):
        one = job("one", 10)
        rig.gate.fault = fault
        rig.begin(one)
        rig.gate.may_end.release()
        until(lambda one=one: one.over or one in rig.finished)
    until(lambda: len(rig.failures) == 3)
    assert rig.failures == [1, 2, 1]


def test_a_run_that_its_deadline_ends_is_no_failure(rig: Rig) -> None:
    late, patient = job("late", 10, seconds=0.05), job("patient", 10)
    rig.gate.fault = DeadlineExceeded("too late")
    for one, error in ((late, DeadlineExceeded), (patient, Closed)):
        rig.begin(one)
        until(lambda: time.monotonic() > late.deadline)
        rig.gate.may_end.release()
        # Who has time left is told that the service stops, which is what ended the run.
        with pytest.raises(error):
            one.future.result(WAIT)
    assert rig.failures == []


def test_closing_tells_all_who_wait() -> None:
    rig = Rig()
    rig.begin(job("first", 100))
    waits = job("waits", 100)
    rig.batcher.submit(waits)
    rig.batcher.close()
    with pytest.raises(Closed):
        waits.future.result(WAIT)
    with pytest.raises(Closed):
        rig.batcher.submit(job("comes", 100))
    rig.gate.may_end.release()


def test_closing_may_wait_for_the_runs_under_way() -> None:
    rig = Rig()
    rig.begin(job("first", 100))
    rig.batcher.close(wait=0.01)
    running = [thread for thread in rig.batcher._threads if thread.is_alive()]
    assert running
    threading.Timer(0.05, rig.gate.may_end.release).start()
    rig.batcher.close(wait=WAIT)
    assert not any(thread.is_alive() for thread in running)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_answers_are_the_same_alone_and_in_company(tiny_bundle: Path, variant: str) -> None:
    """Requests of many lengths, held back until they are all queued: spans are the same, scores nearly."""
    together = threading.Event()
    sizes: list[int] = []

    def first(windows: Sequence[Any], deadline: float | None) -> None:
        if deadline is not None:  # a run of the service, not of the comparison
            assert together.wait(WAIT)
            sizes.append(len(windows))

    contexts = [CONTEXT[: 30 + 7 * (number % 5)] for number in range(20)] + [LONG_CONTEXT, CONTEXT]
    bodies = [{"question": f"{QUESTION} {number % 3}", "context": c} for number, c in enumerate(contexts)]
    with scripted(tiny_bundle, first, variant=variant) as qa:
        alone = [qa.answer(**body).to_dict() for body in bodies]
        options = qa.stages.options(None, {})
        encoded = qa.stages.encode([(body["question"], body["context"]) for body in bodies], options, 0)
        tokens = sum(len(window.input_ids) for pair in encoded for window in pair.windows)
        service = Service(qa, Limits(wait_ms=60_000))
        with serving(service) as port, ThreadPoolExecutor(len(bodies)) as clients:
            asked = [clients.submit(ask, port, "POST", "/answer", body) for body in bodies]
            hosted = service.bundles.get(None)
            until(lambda: hosted.waiting().in_all == tokens)
            together.set()
            found = [future.result(WAIT) for future in asked]
    for (status, answer), expected in zip(found, alone, strict=True):
        assert status == 200
        for ours, theirs in zip(answer["answers"], expected["answers"], strict=True):
            assert (ours["start"], ours["end"]) == (theirs["start"], theirs["end"])
            assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)
        assert answer["null_score"] == pytest.approx(expected["null_score"], abs=1e-4)
    if variant == "fp32" or qa.info().graph.endswith("kernels.onnx"):
        assert max(sizes) > 1
    else:
        assert max(sizes) == 1  # a scale of plain int8 spans the batch


def test_arrays_are_one_request(tiny_bundle: Path) -> None:
    with scripted(tiny_bundle, lambda *_: None) as qa, serving(Service(qa)) as port:
        passages = [CONTEXT, "the river was blue.", LONG_CONTEXT]
        status, found = ask(port, "POST", "/answer", {"question": QUESTION, "context": passages})
        assert status == 200
        alone = [ask(port, "POST", "/answer", {"question": QUESTION, "context": one})[1] for one in passages]
        for ours, theirs in zip(found["predictions"], alone, strict=True):
            assert ours["answer"] == pytest.approx(theirs["answer"])
        status, found = ask(port, "POST", "/answer", {"question": [QUESTION, "when?"], "context": CONTEXT})
        assert len(found["predictions"]) == 2
        body = {"question": [QUESTION] * 2, "context": [CONTEXT] * 3}
        assert "equal length" in json.dumps(ask(port, "POST", "/answer", body)[1])
        assert ask(port, "POST", "/answer", {"question": [], "context": CONTEXT})[0] == 422


def test_idle_threads_sleep() -> None:
    looked: list[None] = []

    class Watched(Batcher):
        def _next_batch(self) -> list[Any]:
            looked.append(None)
            return super()._next_batch()

    stages: Any = SimpleNamespace(run_tokens=BUDGET)
    batcher = Watched(stages, 4, lambda job: None, longest_wait=1)
    time.sleep(0.1)
    # Each looks once; threads that wake each other up would look thousands of times.
    assert len(looked) == 4
    batcher.close(wait=60)

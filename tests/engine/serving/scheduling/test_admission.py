"""Who is let in: the estimate of the wait, deadlines, and clients that leave."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastspan import InputError, Overloaded
from support.serving.http_service import LONG_CONTEXT, PAIR, WAIT, ask, raw, refused, scripted, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Limits, Service
from fastspan.serving.scheduling import admission as module
from fastspan.serving.scheduling.admission import MemoryLimit, Slots, Waiting, admit
from fastspan.serving.scheduling.jobs import Job
from fastspan.serving.scheduling.pace import Foresight, Pace


def waiting(fresh: int = 0, begun: int = 0, running: int = 0, requests: int = 1, free: int = 0) -> Waiting:
    return Waiting(fresh=fresh, begun=begun, running=running, requests=requests, run_tokens=100, free=free)


def job(tokens: int, seconds: float) -> Job:
    made = Job(deadline=time.monotonic() + seconds)
    made.windows = [SimpleNamespace(input_ids=[0] * tokens)]  # type: ignore[list-item]
    return made


def let_in(pace: Pace, before: Waiting, one: Job, longest_wait: float) -> float:
    return admit(pace, Foresight(), before, one, longest_wait)


def test_long_requests_count_for_the_wait_only_as_far_as_they_go_first() -> None:
    assert waiting(fresh=300, begun=10_000, running=50).before_next == 50 + 300 + 400
    assert waiting(fresh=300, begun=20, running=50).before_next == 370


def test_who_would_come_too_late_is_refused_with_the_time_to_wait() -> None:
    pace = Pace(1)
    pace.measured([100], 1.0)
    let_in(pace, waiting(fresh=200), job(100, seconds=3.5), 10)
    with pytest.raises(Overloaded, match=r"about 3\.00 seconds") as error:
        let_in(pace, waiting(fresh=200), job(100, seconds=1), 10)
    assert error.value.retry_after == pytest.approx(2, abs=0.1)
    with pytest.raises(Overloaded, match="limit is 1") as error:
        let_in(pace, waiting(fresh=300), job(10, seconds=100), 1)
    assert error.value.retry_after == pytest.approx(2)


def test_where_a_run_may_begin_everything_is_tried() -> None:
    pace = Pace(2)
    pace.measured([1], 100.0)
    let_in(pace, waiting(running=100, requests=0, free=1), job(1000, seconds=0.1), 0.1)
    # One that waits would take it.
    with pytest.raises(Overloaded):
        let_in(pace, waiting(running=100, requests=1, free=1), job(1000, seconds=0.1), 0.1)
    with pytest.raises(Overloaded):
        let_in(pace, waiting(running=100, requests=0), job(1000, seconds=0.1), 0.1)


def test_a_run_of_its_own_takes_one_thread_however_many_there_are() -> None:
    pace = Pace(4)
    pace.measured([100], 1.0)
    assert let_in(pace, waiting(fresh=200), job(100, seconds=9), 9) == pytest.approx(0.5 + 1)


def test_windows_that_run_side_by_side_are_through_a_run_after_their_share() -> None:
    pace = Pace(4)
    pace.measured([100], 1.0)
    long = job(300, seconds=9)
    long.windows = [*long.windows, *long.windows]
    assert let_in(pace, waiting(fresh=200), long, 9) == pytest.approx((200 + 600) / 400 + 1)


def test_where_estimates_were_too_short_more_is_refused() -> None:
    pace, foresight = Pace(1), Foresight()
    pace.measured([100], 1.0)
    admit(pace, foresight, waiting(fresh=200), job(100, seconds=4), longest_wait=10)
    for _ in range(200):
        foresight.took(3.0, 7.0, 1.0)
    with pytest.raises(Overloaded, match="about 7"):
        admit(pace, foresight, waiting(fresh=200), job(100, seconds=4), longest_wait=10)


def test_before_it_is_encoded_a_request_is_refused_only_for_what_it_surely_is() -> None:
    pace = Pace(1)
    pace.measured([100], 1.0)
    unknown = Job(deadline=time.monotonic() + 2)
    let_in(pace, waiting(fresh=100), unknown, 9)
    unknown.expected_tokens, unknown.least_tokens = 500, 50
    let_in(pace, waiting(fresh=100), unknown, 9)
    unknown.least_tokens = 150
    with pytest.raises(Overloaded):
        let_in(pace, waiting(fresh=100), unknown, 9)


def test_slots_are_given_back_whatever_happens() -> None:
    slots = Slots(1)
    with pytest.raises(ZeroDivisionError), slots.one(lambda: 3):
        assert slots.taken == 1
        with pytest.raises(Overloaded) as error, slots.one(lambda: 3):
            pass
        assert error.value.retry_after == 3
        raise ZeroDivisionError
    assert slots.taken == 0


def test_memory_beyond_the_limit_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    MemoryLimit(0).check()
    statm = tmp_path / "statm"
    statm.write_text("5 1000 0")
    monkeypatch.setattr(module, "_STATM", statm)
    MemoryLimit(10**9).check()
    with pytest.raises(Overloaded, match="--max-memory is 1,000") as error:
        MemoryLimit(1000).check()
    assert error.value.reason == "memory"
    monkeypatch.setattr(module, "_STATM", tmp_path / "none")
    with pytest.raises(InputError, match="only Linux"):
        MemoryLimit(1000)


class Hold:
    """Runs of an answerer that wait until they may go on."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_run = threading.Event()
        self.runs: list[int] = []

    def __call__(self, windows: Sequence[Any], deadline: float | None) -> None:
        self.begun.release()
        assert self.may_run.wait(WAIT)
        self.runs.append(len(windows))


def test_a_deadline_that_passes_is_504_and_the_next_request_works(tiny_bundle: Path) -> None:
    hold = Hold()
    with scripted(tiny_bundle, hold) as qa, serving(Service(qa)) as port:
        refused(port, "/answer", PAIR, 504, "deadline", X_Request_Timeout_Ms="30")
        hold.may_run.set()
        assert ask(port, "POST", "/answer", PAIR, X_Request_Timeout_Ms="20000")[0] == 200
        for text in ("0", "soon", "-1", "9" * 30):
            assert "X-Request-Timeout-Ms" in refused(
                port, "/answer", PAIR, 422, "invalid", X_Request_Timeout_Ms=text
            )


def test_a_deadline_stops_a_run_in_progress(deep_bundle: Path) -> None:
    """ONNX Runtime gives up between two of many operators; the run's thread is free again."""
    from fastspan import QuestionAnswerer

    with QuestionAnswerer.load(deep_bundle, variant="fp32", provider="cpu", threads=1) as qa:
        body = {"question": PAIR["question"], "context": LONG_CONTEXT * 3}
        with serving(Service(qa, Limits(timeout_ms=20))) as port:
            refused(port, "/answer", body, 504, "deadline")
            expected = qa.answer(**PAIR).to_dict()["answer"]
            status, found = ask(port, "POST", "/answer", PAIR, X_Request_Timeout_Ms="30000")
            assert status == 200
            assert found["answer"] == pytest.approx(expected)


def test_a_client_that_leaves_is_dropped_before_its_work_runs(tiny_bundle: Path) -> None:
    hold = Hold()
    with scripted(tiny_bundle, hold, threads=1) as qa, ThreadPoolExecutor(1) as clients:
        service = Service(qa, Limits(wait_ms=60_000))
        with serving(service) as port:
            first = clients.submit(ask, port, "POST", "/answer", PAIR)
            assert hold.begun.acquire(timeout=WAIT)
            content = json.dumps({**PAIR, "context": LONG_CONTEXT}).encode()
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as leaving:
                head = f"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
                leaving.sendall(head.encode() + content)
                hosted = service.bundles.get(None)
                deadline = time.monotonic() + WAIT
                while hosted.waiting().requests < 1:
                    assert time.monotonic() < deadline
                    time.sleep(0.002)
            while b"fastspan_disconnected_total 1.0" not in raw(port, "GET", "/metrics")[2]:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            hold.may_run.set()
            assert first.result(WAIT)[0] == 200
            assert ask(port, "POST", "/answer", PAIR)[0] == 200
    # The first and the last: of the one that left nothing ran.
    assert hold.runs == [1, 1]


def test_overload_refuses_fast_and_every_request_is_accounted_for(tiny_bundle: Path) -> None:
    """Sent is answered, refused or expired; the metrics say the same."""
    slow = lambda *_: time.sleep(0.02)
    with scripted(tiny_bundle, slow, threads=1) as qa, ThreadPoolExecutor(40) as clients:
        service = Service(qa, Limits(wait_ms=100, concurrent_requests=30))
        service.bundles.warm_up()
        with serving(service) as port:
            asked = [
                clients.submit(raw, port, "POST", "/answer", {**PAIR, "context": f"{n} ice" * 9})
                for n in range(160)
            ]
            found = [future.result(WAIT) for future in asked]
            statuses = [status for status, _, _ in found]
            assert set(statuses) <= {200, 429, 504}
            assert statuses.count(200) > 3
            assert statuses.count(429) > 3
            assert all(int(headers["retry-after"]) >= 1 for status, headers, _ in found if status == 429)
            text = raw(port, "GET", "/metrics")[2].decode()
            counted = {
                line.split('status="')[1][:3]: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines()
                if line.startswith("fastspan_requests_total{")
            }
            assert counted == {str(status): statuses.count(status) for status in set(statuses)}
            refusals = sum(
                float(line.rsplit(" ", 1)[1])
                for line in text.splitlines()
                if line.startswith("fastspan_rejected_total{")
            )
            assert refusals == len(statuses) - statuses.count(200)


def test_who_would_wait_too_long_is_refused_before_it_is_looked_at(tiny_bundle: Path) -> None:
    """Encoding is the larger part of what a refusal would cost."""
    hold = Hold()
    with scripted(tiny_bundle, hold, threads=1) as qa, ThreadPoolExecutor(2) as clients:
        service = Service(qa, Limits(wait_ms=1000))
        hosted = service.bundles.get(None)
        with serving(service) as port:
            first = clients.submit(ask, port, "POST", "/answer", PAIR)
            assert hold.begun.acquire(timeout=WAIT)
            hosted._batcher.pace.measured([1], 100.0)
            waits = clients.submit(ask, port, "POST", "/answer", PAIR, X_Request_Timeout_Ms="9000000")
            deadline = time.monotonic() + WAIT
            while hosted.waiting().requests < 1:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            # It is no JSON, which nobody has noticed.
            assert "requests wait" in refused(port, "/answer", b"{", 429, "overloaded")
            hold.may_run.set()
            assert first.result(WAIT)[0] == 200
            waits.result(WAIT)


def test_a_slow_start_refuses_nobody(tiny_bundle: Path) -> None:
    """The first run finds nothing ready; it says nothing of how long requests will take."""
    runs: list[int] = []

    def slow_at_first(windows: Sequence[Any], deadline: float | None) -> None:
        runs.append(len(windows))
        if len(runs) == 1:
            time.sleep(1)

    with scripted(tiny_bundle, slow_at_first, threads=1) as qa:
        hosted = Service(qa).bundles.get(None)
        hosted.warm_up()
        pace = hosted._batcher.pace
        # Every request of so many would be refused if each took the second that the first run did.
        assert len(runs) > 1
        assert pace.run_seconds(1000) < pace.run_seconds(2000) < 1
        hosted.close()

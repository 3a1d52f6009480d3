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
from support.http_service import LONG_CONTEXT, PAIR, WAIT, ask, raw, refused, scripted, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Limits, Service
from fastspan.serving.scheduling import admission as module
from fastspan.serving.scheduling.admission import MemoryLimit, Pace, Slots, Waiting
from fastspan.serving.scheduling.jobs import Job


def waiting(fresh: int = 0, begun: int = 0, running: int = 0, requests: int = 1) -> Waiting:
    return Waiting(fresh=fresh, begun=begun, running=running, requests=requests, run_tokens=100)


def job(tokens: int, seconds: float) -> Job:
    made = Job(deadline=time.monotonic() + seconds)
    made.windows = [SimpleNamespace(input_ids=[0] * tokens)]  # type: ignore[list-item]
    return made


def test_the_pace_is_of_all_runs_together_and_moves_slowly() -> None:
    pace = Pace(2)
    assert pace.tokens_per_second is None
    assert pace.seconds(1000) == 0
    pace.measured(100, 1.0)
    assert pace.tokens_per_second == 200
    pace.measured(260, 1.0)
    assert pace.tokens_per_second == pytest.approx(220)
    assert pace.seconds(440) == pytest.approx(2)


def test_long_requests_count_for_the_wait_only_as_far_as_they_go_first() -> None:
    assert waiting(fresh=300, begun=10_000, running=50).before_next == 50 + 300 + 400
    assert waiting(fresh=300, begun=20, running=50).before_next == 370


def test_who_would_come_too_late_is_refused_with_the_time_to_wait() -> None:
    pace = Pace(1)
    pace.measured(100, 1.0)
    pace.admit(waiting(fresh=200), job(100, seconds=3.5), longest_wait=10)
    with pytest.raises(Overloaded, match=r"about 3\.00 seconds") as error:
        pace.admit(waiting(fresh=200), job(100, seconds=1), longest_wait=10)
    assert error.value.retry_after == pytest.approx(2, abs=0.1)
    with pytest.raises(Overloaded, match="limit is 1") as error:
        pace.admit(waiting(fresh=300), job(10, seconds=100), longest_wait=1)
    assert error.value.retry_after == pytest.approx(2)


def test_where_nothing_waits_everything_is_tried() -> None:
    pace = Pace(1)
    pace.measured(1, 100.0)
    pace.admit(waiting(requests=0), job(1000, seconds=0.1), longest_wait=0.1)


def test_slots_are_given_back_whatever_happens() -> None:
    slots = Slots(1)
    with pytest.raises(ZeroDivisionError), slots.one(3):
        assert slots.taken == 1
        with pytest.raises(Overloaded) as error, slots.one(3):
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

"""Faults and shutdowns: who hears of them, how soon, and how the process ends."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from fastspan import InferenceError
from support.serving.http_service import (
    CONTEXT,
    LONG_CONTEXT,
    PAIR,
    WAIT,
    ask,
    command,
    raw,
    refused,
    scripted,
    serving,
)

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Limits, Service, listen, run_server

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")


def test_a_fault_reaches_all_who_wait_and_the_next_request_works(tiny_bundle: Path) -> None:
    broken = threading.Event()

    def fail(*_: object) -> None:
        if broken.is_set():
            time.sleep(0.05)
            raise RuntimeError("the model broke")

    with (
        scripted(tiny_bundle, fail, threads=1) as qa,
        ThreadPoolExecutor(2) as clients,
        serving(Service(qa)) as port,
    ):
        broken.set()
        # Two at most: three failures in a row would end the service.
        asked = [clients.submit(ask, port, "POST", "/answer", PAIR) for _ in range(2)]
        found = [future.result(WAIT) for future in asked]
        assert [(status, error["error_type"]) for status, error in found] == [(500, "failed")] * 2
        broken.clear()
        assert ask(port, "POST", "/answer", PAIR)[0] == 200
        assert ask(port, "GET", "/ready")[0] == 200


@needs_signals
def test_a_signal_that_comes_while_the_service_begins_counts(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import uvicorn

    began = uvicorn.Server.run
    in_vain = threading.Event()

    def signalled(server: Any, **arguments: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

        def stop() -> None:
            in_vain.set()
            server.should_exit = True

        timer = threading.Timer(WAIT, stop)
        timer.start()
        began(server, **arguments)
        timer.cancel()

    monkeypatch.setattr(uvicorn.Server, "run", signalled)
    with scripted(tiny_bundle, lambda *_: None) as qa, listen("127.0.0.1", 0) as listening:
        service = Service(qa)
        run_server(service, listening)
        assert service.draining
    assert not in_vain.is_set()


def test_three_failures_in_a_row_end_the_service(tiny_bundle: Path, caplog: Any) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the model broke")

    with scripted(tiny_bundle, fail) as qa:
        service = Service(qa)
        with serving(service) as port:
            service.on_failure = lambda: None  # the server goes on, so that it can be asked
            for _ in range(3):
                refused(port, "/answer", PAIR, 500, "failed")
            status, error = ask(port, "GET", "/ready")
            assert (status, error["error_type"]) == (503, "failed")
            assert ask(port, "GET", "/health")[0] == 200
    assert "3 runs in a row have failed" in caplog.text


def test_the_server_ends_with_an_error_when_the_model_fails(tiny_bundle: Path) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the model broke")

    raised: list[BaseException] = []
    with scripted(tiny_bundle, fail) as qa:
        service = Service(qa)
        listening = listen("127.0.0.1", 0)
        port = listening.getsockname()[1]

        def clients() -> None:
            while not raised:
                try:
                    raw(port, "POST", "/answer", PAIR)
                except OSError:
                    return

        asking = threading.Thread(target=clients)
        asking.start()
        try:
            run_server(service, listening)
        except InferenceError as error:
            raised.append(error)
        asking.join(WAIT)
    assert "failed several times in a row" in str(raised[0])


class Begun:
    """Runs that tell that they begin, and wait."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_run = threading.Event()

    def __call__(self, windows: Sequence[Any], deadline: float | None) -> None:
        self.begun.set()
        assert self.may_run.wait(WAIT)


def test_responses_close_their_connections_while_the_service_drains(tiny_bundle: Path) -> None:
    with scripted(tiny_bundle, lambda *_: None) as qa:
        service = Service(qa)
        with serving(service) as port:
            assert raw(port, "GET", "/health")[1]["connection"] is None
            service.drain()
            for path in ("/health", "/ready"):
                assert raw(port, "GET", path)[1]["connection"] == "close"
            status, headers, _ = raw(port, "POST", "/answer", PAIR)
            assert (status, headers["connection"]) == (200, "close")


def test_the_grace_period_ends_what_waits_and_bodies_that_arrive(tiny_bundle: Path) -> None:
    hold = Begun()
    with scripted(tiny_bundle, hold, threads=1) as qa, ThreadPoolExecutor(3) as clients:
        service = Service(qa, Limits(grace_seconds=0.2, wait_ms=60_000))
        with socket.socket() as slow:
            with serving(service) as port:
                # Of different lengths, so that no two share a run.
                bodies = [{**PAIR, "context": CONTEXT[: 40 + 20 * number]} for number in range(3)]
                asked = [clients.submit(ask, port, "POST", "/answer", body) for body in bodies]
                assert hold.begun.wait(WAIT)
                slow.connect(("127.0.0.1", port))
                slow.settimeout(WAIT)
                slow.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
                deadline = time.monotonic() + WAIT
                while service.bundles.get(None).waiting().requests < 2:
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                # An answer of the loop shows that it has seen the connection before.
                assert raw(port, "GET", "/health")[0] == 200
                # Leaving the block stops the server, while a run is still under way.
            assert slow.recv(100).startswith(b"HTTP/1.1 503 ")
        found = [future.result(WAIT) for future in asked]
        hold.may_run.set()
    assert [(status, error["error_type"]) for status, error in found] == [(503, "unavailable")] * 3


@needs_signals
def test_a_signal_ends_readiness_and_what_is_in_flight_is_answered(tiny_bundle: Path) -> None:
    body = json.dumps({**PAIR, "context": LONG_CONTEXT}).encode()
    arguments = (str(tiny_bundle), "--variant", "fp32", "--provider", "cpu", "--threads", "1")
    with command(*arguments) as (process, port), ExitStack() as opened:
        kept = opened.enter_context(closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)))
        kept.request("GET", "/ready")
        assert kept.getresponse().read() == b'{"status":"ready"}'
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
            head = f"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body[:10])
            kept.request("GET", "/ready")
            assert kept.getresponse().read() == b'{"status":"ready"}'
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
            client.sendall(body[10:])
            response = http.client.HTTPResponse(client)
            response.begin()
            assert response.status == 200
            assert response.getheader("connection") == "close"
            assert json.loads(response.read())["answers"]
        assert process.wait(WAIT) == 0
        assert process.stderr.read() == ""


@needs_signals
def test_long_requests_do_not_outlive_the_grace_period(tiny_bundle: Path) -> None:
    arguments = (str(tiny_bundle), "--variant", "fp32", "--provider", "cpu", "--threads", "1")
    more = ("--grace", "0.3", "--max-windows", "100000", "--max-wait-ms", "60000")
    with command(*arguments, *more) as (process, port), ThreadPoolExecutor(2) as clients:
        body = {"question": "who?", "context": "the river was blue " * 80_000, "max_length": 64, "overlap": 8}
        patient = {"X_Request_Timeout_Ms": "900000"}
        asked = [clients.submit(raw, port, "POST", "/answer", body, **patient) for _ in range(2)]
        deadline = time.monotonic() + WAIT
        while b"fastspan_batch_windows_count" not in raw(port, "GET", "/metrics")[2]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        found = [future.result(WAIT)[0] for future in asked]
        assert set(found) == {503}
        assert process.wait(WAIT) == 0

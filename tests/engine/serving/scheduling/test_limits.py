"""What a service takes on, and how it refuses the rest."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastspan import InputError, QuestionAnswerer
from support.serving.http_service import (
    LONG_CONTEXT,
    PAIR,
    QUESTION,
    WAIT,
    ask,
    raw,
    refused,
    scripted,
    serving,
)

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from fastspan.serving import Limits, Service


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(
        tiny_bundle, variant="fp32", provider="cpu", threads=2, optimize_for="throughput"
    ) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def port(qa: QuestionAnswerer) -> Iterator[int]:
    with serving(Service(qa)) as port:
        yield port


def gauge(port: int, name: str) -> float:
    """The value of a metric without labels."""
    (value,) = re.findall(rf"^{name} (\S+)$", raw(port, "GET", "/metrics")[2].decode(), re.MULTILINE)
    return float(value)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_refused_body_leaves_the_connection_usable(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    for body, status in ((b" " * 3_000_000, 413), (json.dumps(PAIR).encode(), 200)):
        connection.request("POST", "/answer", body)
        response = connection.getresponse()
        response.read()
        assert response.status == status
    connection.close()


def test_too_large_is_413(qa: QuestionAnswerer) -> None:
    body = json.dumps(PAIR).encode()
    with serving(Service(qa, Limits(payload_bytes=len(body)))) as port:
        assert ask(port, "POST", "/answer", body)[0] == 200
        assert f"{len(body):,} bytes" in refused(port, "/answer", body + b" ", 413, "too_large")


def test_too_large_without_a_length_is_413_before_the_end(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
        client.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b" " * 100_000
        for _ in range(21):
            client.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        # The body never ends, and the answer is here.
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_stalls_is_408_and_gives_its_place_back(qa: QuestionAnswerer) -> None:
    limits = Limits(concurrent_requests=1, body_seconds=0.2)
    with serving(Service(qa, limits)) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
            client.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            assert client.recv(100).startswith(b"HTTP/1.1 408 ")
        assert ask(port, "POST", "/answer", PAIR)[0] == 200


def test_a_client_that_leaves_gives_its_place_back(qa: QuestionAnswerer, caplog: Any) -> None:
    with serving(Service(qa, Limits(concurrent_requests=1))) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
            client.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        deadline = time.monotonic() + WAIT
        while ask(port, "POST", "/answer", PAIR)[0] != 200:
            assert time.monotonic() < deadline
    assert not caplog.records


def test_more_than_the_limit_is_429_at_once(tiny_bundle: Path, qa: QuestionAnswerer) -> None:
    limit = 5
    begun, may_run = threading.Semaphore(0), threading.Event()

    def hold(*_: object) -> None:
        begun.release()
        assert may_run.wait(WAIT)

    limits = Limits(concurrent_requests=limit, wait_ms=60_000)
    with scripted(tiny_bundle, hold) as held, ThreadPoolExecutor(limit) as clients:
        service = Service(held, limits)
        with serving(service) as port:
            started = [clients.submit(ask, port, "POST", "/answer", PAIR) for _ in range(limit)]
            try:
                # Some run, the others wait their turn, and all of them count.
                assert begun.acquire(timeout=WAIT)
                wait_until(lambda: gauge(port, "fastspan_in_flight_requests") == limit)
                status, headers, content = raw(port, "POST", "/", {"inputs": PAIR})
                assert status == 429
                assert f"{limit} requests" in json.loads(content)["error"]
                assert int(headers["retry-after"]) >= 1
                assert ask(port, "GET", "/health")[0] == 200
                assert ask(port, "GET", "/ready")[0] == 200
            finally:
                may_run.set()
            found = [future.result(WAIT) for future in started]
            assert [status for status, _ in found] == [200] * limit
            expected = qa.answer(**PAIR).to_dict()["answer"]
            assert all(answer["answer"] == pytest.approx(expected) for _, answer in found)
            assert ask(port, "POST", "/", {"inputs": PAIR})[0] == 200


def test_a_context_of_too_many_windows_is_413_before_they_are_made(qa: QuestionAnswerer) -> None:
    with serving(Service(qa, Limits(windows=50))) as port:
        body = {"question": QUESTION, "context": "the river was blue " * 15_000}
        sentence = refused(port, "/answer", body, 413, "too_many_windows")
        assert re.search(r"makes \d{3} windows beside its question, and max_windows is 50", sentence)
        assert "lower overlap, or raise max_length" in sentence
        assert "--max-windows" in sentence
        sentence = refused(port, "/", {"inputs": body}, 413, "too_many_windows")
        assert "lower doc_stride, or raise max_seq_len" in sentence
        assert ask(port, "POST", "/answer", {**PAIR, "max_windows": 100})[0] == 200
        body = {"question": QUESTION, "context": LONG_CONTEXT * 3, "max_windows": 2}
        assert "max_windows is 2" in refused(port, "/answer", body, 413, "too_many_windows")


def test_a_question_too_long_for_its_window_is_still_the_answerers_to_refuse(qa: QuestionAnswerer) -> None:
    with serving(Service(qa, Limits(windows=1))) as port:
        body = {"question": "snow " * 300, "context": "river " * 400, "max_question_length": 300}
        assert "at most 205 leave its context room" in refused(port, "/answer", body, 422, "invalid")
        body = {"inputs": {"question": "snow " * 300, "context": "river " * 400}}
        assert "set max_question_len=205" in refused(port, "/", body, 422, "invalid")
        body = {**PAIR, "context": LONG_CONTEXT, "max_length": 100_000}
        assert "the model takes windows of at most" in refused(port, "/answer", body, 422, "invalid")


def test_pairs_of_one_request_share_its_windows(qa: QuestionAnswerer) -> None:
    with serving(Service(qa, Limits(windows=5, pairs=10))) as port:
        body = {"question": [QUESTION] * 5, "context": PAIR["context"]}
        assert ask(port, "POST", "/answer", body)[0] == 200
        body["question"] = [QUESTION] * 6
        assert "no windows left for pair 5" in refused(port, "/answer", body, 413, "too_many_windows")
        body["question"] = [QUESTION] * 11
        assert "11 pairs" in refused(port, "/answer", body, 413, "too_many_pairs")


def test_limits_are_checked() -> None:
    with pytest.raises(InputError, match=r"payload_bytes \(--payload-limit\) must be at least 1, not 0"):
        Limits(payload_bytes=0)
    with pytest.raises(InputError, match=r"windows .* must be a whole number"):
        Limits(windows=1.5)  # type: ignore[arg-type]

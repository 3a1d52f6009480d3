"""Connections that are slow, idle, too many, or do not speak HTTP; and the log that none of them floods."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastspan import QuestionAnswerer
from support.serving.http_service import PAIR, WAIT, ask, refused, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from uvicorn.protocols.http.h11_impl import H11Protocol

from fastspan.serving import Limits, Service
from fastspan.serving.observing import repeated_lines as repeats_module
from fastspan.serving.observing.repeated_lines import counted_repeats


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as loaded:
        yield loaded


def read_all(client: socket.socket) -> tuple[int, Any]:
    """Status and JSON of what comes until the service closes the connection."""
    client.settimeout(WAIT)
    response = http.client.HTTPResponse(client)
    response.begin()
    content = response.read()
    assert client.recv(1) == b""
    return response.status, json.loads(content)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT)


def test_half_a_header_has_a_deadline(qa: QuestionAnswerer) -> None:
    with serving(Service(qa, Limits(header_seconds=0.2))) as port, connect(port) as client:
        client.sendall(b"POST /answer HTTP/1.1\r\nHos")
        status, error = read_all(client)
        assert (status, error["error_type"]) == (408, "header_timeout")


def test_the_second_header_of_a_connection_has_one_too(qa: QuestionAnswerer) -> None:
    with serving(Service(qa, Limits(header_seconds=0.2))) as port, connect(port) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.read() == b'{"status":"live"}'
        time.sleep(0.3)  # a connection that is kept may be silent for longer
        client.sendall(b"GET /hea")
        assert read_all(client)[0] == 408


def test_no_packet_waits_for_an_acknowledgement(
    qa: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response is several packets, and clients acknowledge late: Nagle's algorithm would add 40 ms."""
    found = []
    made = H11Protocol.connection_made

    def connection_made(protocol: Any, transport: Any) -> None:
        made(protocol, transport)
        found.append(transport.get_extra_info("socket"))

    monkeypatch.setattr(H11Protocol, "connection_made", connection_made)
    with serving(Service(qa)) as port, connect(port) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1) == b"H"
        assert found[-1].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_idle_connections_do_not_lock_others_out(qa: QuestionAnswerer) -> None:
    """Many times as many as are allowed stay open with half a header; everyone else is answered."""
    with serving(Service(qa, Limits(connections=20))) as port, contextlib.ExitStack() as opened:
        for _ in range(100):
            idle = opened.enter_context(connect(port))
            idle.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nConte")
        for _ in range(5):
            assert ask(port, "POST", "/answer", PAIR)[0] == 200


def test_slow_bodies_take_nobodys_place(qa: QuestionAnswerer) -> None:
    limits = Limits(concurrent_requests=2, connections=60)
    with serving(Service(qa, limits)) as port, contextlib.ExitStack() as opened:
        for _ in range(40):
            slow = opened.enter_context(connect(port))
            slow.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        for _ in range(5):
            assert ask(port, "POST", "/answer", PAIR)[0] == 200


def test_where_all_connections_have_requests_a_new_one_is_told_so(qa: QuestionAnswerer) -> None:
    with serving(Service(qa, Limits(connections=3))) as port, contextlib.ExitStack() as opened:
        for _ in range(3):
            slow = opened.enter_context(connect(port))
            slow.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        time.sleep(0.1)
        with connect(port) as client:
            status, error = read_all(client)
            assert (status, error["error_type"]) == (503, "unavailable")


def test_bodies_that_arrive_have_a_limit_together(qa: QuestionAnswerer) -> None:
    with serving(Service(qa, Limits(pending_bytes=50_000))) as port, connect(port) as slow:
        slow.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + b" " * 45_000)
        time.sleep(0.1)
        sentence = refused(port, "/answer", {**PAIR, "context": "snow " * 2000}, 429, "overloaded")
        assert "--max-pending-bytes" in sentence
        assert ask(port, "POST", "/answer", PAIR)[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /answer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_told_so_in_json(qa: QuestionAnswerer, sent: bytes, caplog: Any) -> None:
    with serving(Service(qa)) as port, connect(port) as client:
        client.sendall(sent)
        status, error = read_all(client)
        assert (status, error["error_type"]) == (400, "not_http")
    assert not [record for record in caplog.records if record.exc_info]


def test_no_redirect_leads_where_a_host_header_says(qa: QuestionAnswerer) -> None:
    with serving(Service(qa)) as port:
        status, error = ask(port, "POST", "/answer/", PAIR, Host="evil.example")
        assert (status, error["error_type"]) == (404, "not_found")


def test_lines_that_repeat_are_counted(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    now = [100.0]
    monkeypatch.setattr(repeats_module.time, "monotonic", lambda: now[0])
    log = logging.getLogger("fastspan.serving")
    with counted_repeats():
        for number in range(1000):
            log.warning("request %d failed", number)
        log.warning("something else")
        now[0] += 11
        log.warning("request %d failed", 1000)
    log.warning("request %d failed", 1001)
    assert [record.getMessage() for record in caplog.records] == [
        "request 0 failed",
        "something else",
        "request 1000 failed (999 more like it in 11 seconds)",
        "request 1001 failed",
    ]

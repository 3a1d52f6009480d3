"""HTTP as it comes over a socket: requests in one packet and in many, ahead of time, half, and hardly any."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastspan import QuestionAnswerer
from support.serving.http_service import PAIR, WAIT, ask, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Limits, Service

BODY = json.dumps(PAIR).encode()
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def port(tiny_bundle: Path) -> Iterator[int]:
    with (
        QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as qa,
        serving(Service(qa, Limits(payload_bytes=500_000, keep_alive_seconds=60))) as port,
    ):
        yield port


def exchanged(port: int, *packets: bytes) -> bytes:
    """What comes until the service closes the connection; the packets are sent one after the other."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
        for number, packet in enumerate(packets):
            if number:
                time.sleep(0.05)
            client.sendall(packet)
        received = b""
        while found := client.recv(65536):
            received += found
    return received


def statuses(received: bytes) -> list[int]:
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def posted(body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST /answer HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_a_request_may_come_byte_by_byte(port: int) -> None:
    last = posted(BODY, b"Connection: close")
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(len(last)):
            client.sendall(last[position : position + 1])
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.status == 200
        assert json.loads(response.read())["answer"] is not None


def test_a_body_may_come_in_chunks_and_what_stands_behind_them_is_no_header(port: int) -> None:
    head_ = b"POST /answer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    half = len(BODY) // 2
    chunks = b"".join(b"%x;of=it\r\n%s\r\n" % (len(part), part) for part in (BODY[:half], BODY[half:]))
    end = b"0\r\nAuthorization: Bearer x\r\n\r\n"
    received = exchanged(port, head_ + chunks + end + HEALTH, posted(b"{", b"Connection: close"))
    assert statuses(received) == [200, 200, 400]


def test_what_is_sent_ahead_is_answered_in_its_order_also_where_no_http_follows(port: int) -> None:
    received = exchanged(port, posted(BODY) + HEALTH + posted(b"{") + HEALTH + b"nonsense\r\n\r\n")
    assert statuses(received) == [200, 200, 400, 200, 400]
    assert b"not_http" in received.rpartition(b"HTTP/1.1 ")[2]


def test_a_request_whose_body_breaks_off_behind_others_is_refused_in_its_turn(port: int) -> None:
    broken = b"POST /answer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    assert statuses(exchanged(port, posted(BODY) + broken)) == [200, 400]


def test_a_body_that_nobody_reads_is_not_taken_for_a_request(port: int) -> None:
    """It is refused before it is in, as too large; the connection is kept, and what follows is answered."""
    large = posted(b" " * 600_000)
    received = exchanged(port, large[:1000], large[1000:] + HEALTH, posted(b"{", b"Connection: close"))
    assert statuses(received) == [413, 200, 400]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20_000,
        b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ],
    ids=lambda sent: sent[:60].decode("latin-1"),
)
def test_headers_that_are_too_large_or_say_two_things_are_refused(port: int, sent: bytes) -> None:
    received = exchanged(port, sent)
    assert statuses(received) == [400]
    assert b"not_http" in received


def test_nobody_fills_the_memory_behind_a_body(port: int) -> None:
    """Trailers have no end of their own; nothing of them is kept, and soon nothing more is taken."""
    sent = b"POST /answer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
        client.sendall(sent)
        received = b""
        try:
            for _ in range(100):
                client.sendall(b"A: " + b"a" * 20_000 + b"\r\n")
            received = client.recv(65536)
        except OSError:
            pass  # it was closed while there was more
        else:
            assert statuses(received) == [400]
    assert ask(port, "GET", "/health")[0] == 200


def test_http_of_old_and_head(port: int) -> None:
    old = exchanged(port, b"GET /health HTTP/1.0\r\n\r\n")
    assert statuses(old) == [200]
    assert old.endswith(b'{"status":"live"}')
    heads = exchanged(
        port, b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + posted(b"{", b"Connection: close")
    )
    assert statuses(heads) == [200, 200, 400]
    assert b"live" not in heads


def test_another_protocol_is_not_agreed_to(port: int) -> None:
    """curl offers HTTP/2 in this way; the answer is that of HTTP/1.1, and the connection goes on."""
    offered = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
    received = exchanged(port, posted(BODY, *offered) + HEALTH, posted(b"{", b"Connection: close"))
    assert statuses(received) == [200, 200, 400]
    # A body is a body then too, never a request.
    hidden = posted(HEALTH, b"Connection: Upgrade", b"Upgrade: websocket")
    received = exchanged(port, hidden[:-10], hidden[-10:], posted(b"{", b"Connection: close"))
    assert statuses(received) == [400, 400]
    assert received.count(b"not_json") == 2
    chunked = (
        b"POST /answer HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked"
    )
    received = exchanged(
        port,
        chunked + b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY) + HEALTH[:-2],
        b"Connection: close\r\n\r\n",
    )
    assert statuses(received) == [200, 200]
    none = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    assert statuses(exchanged(port, none * 2 + posted(b"{", b"Connection: close"))) == [200, 200, 400]


def test_a_connection_that_is_kept_is_closed_in_time(tiny_bundle: Path) -> None:
    with (
        QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as qa,
        serving(Service(qa, Limits(keep_alive_seconds=1))) as port,
    ):
        assert statuses(exchanged(port, HEALTH)) == [200]


@pytest.mark.parametrize("failed", [RuntimeError("in the application"), None])
def test_an_application_that_fails_or_says_nothing_is_told_as_a_failure(
    tiny_bundle: Path, failed: Exception | None, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as qa:
        service = Service(qa)
        inner = service.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await inner(scope, receive, send)
            elif failed is not None:
                raise failed

        monkeypatch.setattr(service, "app", app)
        with serving(service) as port:
            assert statuses(exchanged(port, HEALTH)) == [500]
    assert [record.exc_info for record in caplog.records if record.exc_info] == (
        [(RuntimeError, failed, failed.__traceback__)] if failed else []
    )

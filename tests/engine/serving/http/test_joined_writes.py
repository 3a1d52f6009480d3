"""A response's header and body leave in one packet."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from support.serving.http_service import PAIR, WAIT, scripted, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from uvicorn.protocols.http.h11_impl import H11Protocol

from fastspan.serving import Service


class Recorded:
    """A transport that remembers what is written."""

    def __init__(self, transport: Any, written: list[bytes]) -> None:
        self._transport = transport
        self._written = written

    def write(self, data: bytes) -> None:
        if data:
            self._written.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def test_each_response_of_a_connection_is_one_write(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    made = H11Protocol.connection_made

    def connection_made(protocol: Any, transport: Any) -> None:
        transport._transport = Recorded(transport._transport, written)
        made(protocol, transport)

    monkeypatch.setattr(H11Protocol, "connection_made", connection_made)
    content = json.dumps(PAIR).encode()
    asked = b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)
    last = b"POST /answer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{"
    with (
        scripted(tiny_bundle, lambda *_: None) as qa,
        serving(Service(qa)) as port,
        socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client,
    ):
        # Two in one packet, and one that ends the connection.
        client.sendall(asked + asked + last)
        received = b""
        while found := client.recv(65536):
            received += found
    assert [one[:12] for one in written] == [b"HTTP/1.1 200", b"HTTP/1.1 200", b"HTTP/1.1 400"]
    assert b"".join(written) == received
    assert all(one.endswith(b"}") for one in written)


def test_a_client_that_waits_before_its_body_is_told_to_go_on(tiny_bundle: Path) -> None:
    content = json.dumps(PAIR).encode()
    head = b"POST /answer HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
    with (
        scripted(tiny_bundle, lambda *_: None) as qa,
        serving(Service(qa)) as port,
        socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client,
    ):
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(content))
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
        client.sendall(content)
        received = b""
        while found := client.recv(65536):
            received += found
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"}")

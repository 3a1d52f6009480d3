"""TLS: encrypted answers, and handshakes that never end."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastspan import QuestionAnswerer
from support.serving.http_service import PAIR, WAIT, command, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Limits, Service
from fastspan.serving.server import _Server


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-keyout", str(key), "-out", str(cert), "-subj", "/CN=localhost", "-days", "2"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("needs openssl to make a certificate")
    return cert, key


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as loaded:
        yield loaded


def answered(port: int, cert: Path, times: int = 1) -> None:
    """Ask over one connection."""
    trusted = ssl.create_default_context(cafile=str(cert))
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=WAIT, context=trusted)
    with contextlib.closing(connection):
        for _ in range(times):
            connection.request("POST", "/answer", json.dumps(PAIR))
            response = connection.getresponse()
            assert response.status == 200
            assert json.loads(response.read())["answers"]


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT)


def closed(client: socket.socket) -> bool:
    """Whether the service ends a connection without another word."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_the_command_encrypts(tiny_bundle: Path, files: tuple[Path, Path]) -> None:
    cert, key = files
    arguments = ("--variant", "fp32", "--threads", "1", "--tls-cert", str(cert), "--tls-key", str(key))
    with command(str(tiny_bundle), *arguments) as (_, port):
        answered(port, cert, times=3)


def test_handshakes_that_do_not_end_lock_nobody_out(qa: QuestionAnswerer, files: tuple[Path, Path]) -> None:
    with serving(Service(qa, Limits(connections=20)), files) as port, contextlib.ExitStack() as opened:
        for number in range(100):
            silent = opened.enter_context(connect(port))
            if number % 2:
                silent.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        for _ in range(5):
            answered(port, files[0])


def test_a_handshake_has_the_headers_deadline(qa: QuestionAnswerer, files: tuple[Path, Path]) -> None:
    with serving(Service(qa, Limits(header_seconds=0.3)), files) as port, connect(port) as silent:
        began = time.monotonic()
        assert closed(silent)
        assert 0.2 < time.monotonic() - began < WAIT / 2
        answered(port, files[0], times=2)


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
def test_who_speaks_no_tls_is_hung_up_on(
    qa: QuestionAnswerer, files: tuple[Path, Path], sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Service(qa), files) as port, connect(port) as client:
        client.sendall(sent)
        while client.recv(100):
            pass
        answered(port, files[0])
    assert caplog.text == ""


def test_handshakes_under_way_do_not_hold_up_the_end(qa: QuestionAnswerer, files: tuple[Path, Path]) -> None:
    with contextlib.ExitStack() as opened:
        began = time.monotonic()
        with serving(Service(qa), files) as port:
            for _ in range(3):
                opened.enter_context(connect(port))
            answered(port, files[0])
        assert time.monotonic() - began < WAIT / 2


def test_a_request_that_comes_with_the_handshakes_end_is_answered(
    qa: QuestionAnswerer, files: tuple[Path, Path]
) -> None:
    """The client's last message of the handshake and its request come in one packet."""
    context = ssl.create_default_context(cafile=str(files[0]))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    encrypted = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with serving(Service(qa), files) as port, connect(port) as client:
        while True:
            try:
                encrypted.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.sendall(outgoing.read())
                incoming.write(client.recv(65536))
        encrypted.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        client.sendall(outgoing.read())
        found = b""
        while b"live" not in found:
            incoming.write(client.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                found += encrypted.read(65536)
        assert found.startswith(b"HTTP/1.1 200")


def test_a_fault_of_our_own_is_logged_and_the_next_connection_works(
    qa: QuestionAnswerer,
    files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    works, made = False, _Server._connection

    def connection(server: _Server) -> asyncio.Protocol:
        if not works:
            raise RuntimeError("no protocol")
        return made(server)

    monkeypatch.setattr(_Server, "_connection", connection)
    with serving(Service(qa), files) as port:
        with connect(port) as client:
            assert closed(client)
        deadline = time.monotonic() + WAIT
        while "no protocol" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "could not be encrypted" in caplog.text
        works = True
        answered(port, files[0])

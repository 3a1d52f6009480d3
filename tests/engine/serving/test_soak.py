"""Overload, attacks and shutdown under load, in a process of its own; ``make soak`` runs them for longer.

Times are held to limits only there, on a machine that does nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serving.http_load import Outcome, open_loop, post
from support.serving.http_service import CONTEXT, LONG_CONTEXT, PAIR, QUESTION, WAIT, ask, command, raw

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

SECONDS = float(os.environ.get("FASTSPAN_SOAK_SECONDS", "1"))
LONG = SECONDS > 5

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch"),
]


@pytest.fixture
def served(tiny_bundle: Path) -> Iterator[tuple[object, int]]:
    with command(
        str(tiny_bundle),
        *("--variant", "fp32", "--provider", "cpu", "--threads", "1"),
        *("--max-wait-ms", "200", "--max-concurrent-requests", "64", "--header-timeout", "2"),
    ) as (process, port):
        yield process, port


def counted(port: int) -> dict[str, float]:
    """Requests by status, as the metrics have them."""
    text = raw(port, "GET", "/metrics")[2].decode()
    found: dict[str, float] = {}
    for status, value in re.findall(r'^fastspan_requests_total\{.*status="(\d+)"\} (\S+)$', text, re.M):
        found[status] = found.get(status, 0) + float(value)
    return found


def requests() -> list[bytes]:
    chosen = random.Random(0)
    contexts = [CONTEXT, LONG_CONTEXT, LONG_CONTEXT * 2, CONTEXT[:40]]
    return [
        post("/answer", json.dumps({"question": QUESTION, "context": chosen.choice(contexts)}).encode())
        for _ in range(64)
    ]


def told(name: str, outcome: Outcome) -> None:
    for status, seconds in sorted(outcome.seconds.items()):
        ordered = sorted(seconds)
        middle, late = (
            1000 * value for value in (statistics.median(ordered), ordered[-1 - len(ordered) // 100])
        )
        print(f"{name}: {len(ordered)} of status {status}, median {middle:.1f} ms, 99 % within {late:.1f} ms")


def capacity(port: int) -> float:
    """Requests a second that the service answers when one client asks after the other."""
    sent, began = requests(), time.perf_counter()
    for request in sent[:20]:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
            client.sendall(request)
            while client.recv(65536):
                pass
    return 20 / (time.perf_counter() - began)


def test_twice_the_capacity(served: tuple[object, int]) -> None:
    """Every request is answered, refused or expired; the metrics agree; the service is well afterwards."""
    _, port = served
    rate = 2 * capacity(port)
    before = counted(port)
    outcome = open_loop(port, requests(), rate=rate, seconds=SECONDS)
    told("overload", outcome)
    after = counted(port)
    assert set(outcome.seconds) <= {200, 429, 504}
    assert outcome.count(200) > 0
    grown = {status: int(after[status] - before.get(status, 0)) for status in after}
    assert {status: number for status, number in grown.items() if number} == {
        str(status): outcome.count(status) for status in outcome.seconds
    }
    assert ask(port, "GET", "/ready")[0] == 200
    assert ask(port, "POST", "/answer", PAIR)[0] == 200
    if LONG:
        assert statistics.median(outcome.seconds[200]) < 0.5
        assert statistics.median(outcome.seconds.get(429, [0.0])) < 0.01


def test_idle_connections_and_slow_bodies_beside_requests(served: tuple[object, int]) -> None:
    """As many half headers and slow bodies as an attacker has files; everyone else is answered."""
    _, port = served
    number = 1500 if LONG else 200
    half = b"POST /answer HTTP/1.1\r\nHost: x\r\nConte"
    slow = b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    with contextlib.ExitStack() as opened:
        for index in range(number):
            with contextlib.suppress(OSError):
                client = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WAIT))
                client.sendall(slow if index % 3 == 0 else half)
        outcome = open_loop(port, requests(), rate=5, seconds=SECONDS)
    told("attack", outcome)
    assert set(outcome.seconds) == {200}


def test_fuzzed_http_gets_no_server_error(served: tuple[object, int]) -> None:
    process, port = served
    chosen = random.Random(1)
    whole = requests()[0]
    end = time.monotonic() + SECONDS
    statuses: set[int] = set()
    while time.monotonic() < end:
        data = bytearray(whole)
        for _ in range(chosen.randrange(1, 6)):
            at = chosen.randrange(len(data))
            kind = chosen.randrange(3)
            if kind == 0:
                data[at] = chosen.randrange(256)
            elif kind == 1:
                del data[at : at + chosen.randrange(1, 20)]
            else:
                data[at:at] = bytes(chosen.randrange(256) for _ in range(chosen.randrange(1, 20)))
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
            client.sendall(data)
            client.settimeout(0.05)
            with contextlib.suppress(OSError):
                if match := re.match(rb"HTTP/1\.1 (\d+)", client.recv(4096)):
                    statuses.add(int(match[1]))
    assert statuses
    assert not [status for status in statuses if status >= 500], statuses
    assert ask(port, "POST", "/answer", PAIR)[0] == 200
    process.send_signal(signal.SIGTERM)  # type: ignore[attr-defined]
    assert process.wait(WAIT) == 0  # type: ignore[attr-defined]
    # A line for a kind, however many requests were of it.
    log = process.stderr.read()  # type: ignore[attr-defined]
    assert len(log) < 20_000
    assert "Traceback" not in log


def test_memory_stays_where_it_is(served: tuple[object, int]) -> None:
    """Requests of random length, after a warm-up that holds the longest: at most 5 % more, books balanced."""
    psutil = pytest.importorskip("psutil")
    process, port = served
    chosen = random.Random(2)
    sizes = [40, *(chosen.randrange(1, 40) for _ in range(255))]
    mixed = [
        post("/answer", json.dumps({"question": QUESTION, "context": " ".join([CONTEXT] * size)}).encode())
        for size in sizes
    ]
    resident = psutil.Process(process.pid).memory_info  # type: ignore[attr-defined]
    rate = capacity(port) / 2
    open_loop(port, mixed, rate=rate, seconds=min(SECONDS, 60.0))
    before, had = resident().rss, counted(port)
    outcome = open_loop(port, mixed, rate=rate, seconds=SECONDS)
    told("memory", outcome)
    after, has = resident().rss, counted(port)
    print(f"memory: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after {outcome.count()} requests")
    assert set(outcome.seconds) <= {200, 429}
    assert {status: has.get(str(status), 0) - had.get(str(status), 0) for status in outcome.seconds} == {
        status: outcome.count(status) for status in outcome.seconds
    }
    if LONG:
        assert after <= 1.05 * before


def test_a_signal_under_load(served: tuple[object, int]) -> None:
    """What was accepted is answered, nothing fails, and the process ends with 0."""
    process, port = served
    rate = capacity(port)
    stop = threading.Timer(SECONDS / 2, process.send_signal, [signal.SIGTERM])  # type: ignore[attr-defined]
    stop.start()
    outcome = open_loop(port, requests(), rate=rate, seconds=SECONDS)
    told("shutdown", outcome)
    assert set(outcome.seconds) <= {0, 200, 429, 503}
    assert outcome.count(200) > 0
    assert process.wait(WAIT) == 0  # type: ignore[attr-defined]
    assert process.stderr.read() == ""  # type: ignore[attr-defined]

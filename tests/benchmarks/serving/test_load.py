"""The load client: every request has one fate, and the service's own count agrees."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from fastspan import QuestionAnswerer
from support.serving.http_service import PAIR, serving

pytest.importorskip("aiohttp")
pytest.importorskip("uvicorn")

from fastspan.benchmarks.serving.books import compare, counted, require_answer
from fastspan.benchmarks.serving.load import Outcome, ServiceError, closed_loop, fetch, open_loop
from fastspan.benchmarks.serving.measure import Plan, measure
from fastspan.errors import InputError
from fastspan.serving import Service

BODIES = [json.dumps(PAIR).encode()]


@pytest.fixture(scope="module")
def address(tiny_bundle: Path) -> Iterator[str]:
    with (
        QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as qa,
        serving(Service(qa)) as port,
    ):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def scripted() -> Iterator[tuple[str, list[int]]]:
    """A server that answers with the statuses of a list in turn; 0 hangs, 1 is no JSON, 2 breaks off."""
    statuses: list[int] = []
    over = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status = statuses.pop(0)
            if status == 0:
                over.wait(10)
                return
            if status == 2:
                return
            body = b"{}" if status != 1 else b"<html>"
            self.send_response(status if status > 2 else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/answer", statuses
        over.set()
        server.shutdown()
        thread.join()


def test_every_status_has_its_fate(scripted: tuple[str, list[int]]) -> None:
    url, statuses = scripted
    given = [200, 429, 503, 504, 500, 422, 1, 2, 0]
    statuses += given
    seen: Counter[str] = Counter()
    while statuses:
        (outcome,) = closed_loop(url, BODIES, clients=1, seconds=0, patience=1.0)
        seen[outcome.fate] += 1
    assert seen == {"ok": 1, "rejected": 2, "expired": 2, "failed": 4}


def test_an_open_loop_sends_at_its_rate_whatever_comes_back(scripted: tuple[str, list[int]]) -> None:
    url, statuses = scripted
    statuses += [0] * 1000
    outcomes = open_loop(url, BODIES, rate=40, seconds=0.5, patience=0.3)
    again = open_loop(url, BODIES, rate=40, seconds=0.5, patience=0.3)
    # Of a seed: the same moments again, though no request ever came back.
    assert len(outcomes) == len(again) > 5
    assert {outcome.fate for outcome in outcomes} == {"expired"}


def test_the_books_of_client_and_service_agree(address: str) -> None:
    before = counted(address)
    outcomes = open_loop(f"{address}/answer", BODIES, rate=30, seconds=0.5, patience=10)
    outcomes += closed_loop(f"{address}/answer", BODIES, clients=3, seconds=0.2, patience=10)
    after = counted(address)
    assert {outcome.fate for outcome in outcomes} == {"ok"}
    assert compare(outcomes, before, after) == ""
    said = compare(outcomes[:-1], before, after)
    assert said == f"{len(outcomes) - 1} of status 200 here, {len(outcomes)} in its metrics"


def test_a_client_that_gave_up_is_a_disconnection_in_the_metrics() -> None:
    left = [Outcome("expired", 0, 1.0)]
    assert compare(left, Counter(), Counter({499: 1})) == ""
    assert "0 in its metrics" in compare(left, Counter(), Counter())
    assert compare(left, None, None) == ""


def test_a_service_without_metrics_is_measured_all_the_same(scripted: tuple[str, list[int]]) -> None:
    url, _ = scripted
    assert counted(url.removesuffix("/answer")) is None


def test_what_cannot_be_measured_is_said(scripted: tuple[str, list[int]]) -> None:
    url, statuses = scripted
    with pytest.raises(ServiceError, match=r"cannot be reached .*fastspan serve"):
        fetch("http://127.0.0.1:9/metrics")
    statuses.append(422)
    with pytest.raises(ServiceError, match="does not answer: status 422"):
        require_answer("there", url, BODIES[0])
    statuses += [200] + [429] * 100_000
    plan = Plan(seconds=0.05, clients=1)
    with pytest.raises(ServiceError, match="answered nothing"):
        measure("there", url.removesuffix("/answer"), BODIES, plan, lambda line: None)
    with pytest.raises(InputError, match="above 0"):
        Plan(seconds=0)


def test_loads_are_shares_of_the_capacity(address: str) -> None:
    said: list[str] = []
    plan = Plan(shares=(0.5, 2.0), seconds=0.3, clients=2)
    target = measure("it", address, BODIES, plan, said.append)
    assert [point.offered / target.capacity for point in target.points] == pytest.approx([0.5, 2.0])
    assert all(point.books == "" and point.metrics for point in target.points)
    assert len(said) == 3
    plan = Plan(loads=(9.0, 3.0), seconds=0.3)
    assert [point.offered for point in measure("it", address, BODIES, plan, said.append).points] == [3.0, 9.0]

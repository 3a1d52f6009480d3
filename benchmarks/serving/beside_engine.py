"""What the service adds to its engine: to the time of a lone question, and to a full machine's work.

Service and engine take turns, question by question and round by round, so that whatever else slows the
machine slows both.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from fastspan import QuestionAnswerer
from fastspan.benchmarks.serving.load import ServiceError, closed_loop
from fastspan.benchmarks.serving.record import Beside
from fastspan.machine.cpu import usable_cores

__all__ = ["measure_beside"]

_ROUNDS = 5
# How often each round asks every question: while the first come in and the last go out, not all cores work.
_PASSES = 3
_WARM = 20
_JSON = {"content-type": "application/json"}


def measure_beside(
    address: str, qa: QuestionAnswerer, requests: Sequence[bytes], clients: int, say: Callable[[str], None]
) -> Beside:
    """Measure a service that runs beside the same bundle in this process.

    Args:
        address: Such as ``http://127.0.0.1:8080``.
        qa: The same bundle, loaded with the same options.
        requests: Bodies of ``/answer``.
        clients: How many ask at once while the machine is full.
        say: Told of what was found.

    Raises:
        ServiceError: The service does not answer.
    """
    pairs = [(body["question"], body["context"]) for body in map(json.loads, requests)]
    engine, service = _lone(address, qa, requests, pairs)
    rounds = [_full(address, qa, requests, pairs, clients) for _ in range(_ROUNDS)]
    many, answered, took = map(statistics.median, zip(*rounds, strict=True))
    found = Beside(
        engine_p50_ms=engine,
        service_p50_ms=service,
        engine_per_second=many,
        service_per_second=answered,
        share=statistics.median(theirs / ours for ours, theirs, _ in rounds),
        clients=clients,
        # Clients that have cores of their own take nothing from the service.
        clients_took=took if qa.info().threads >= usable_cores() else None,
    )
    say(
        f"one question at a time: {engine:.2f} ms in process, {service:.2f} ms from the service; "
        f"as many as it can: {many:.1f}/s in process, {answered:.1f}/s from the service"
    )
    return found


def _lone(
    address: str, qa: QuestionAnswerer, requests: Sequence[bytes], pairs: Sequence[tuple[str, str]]
) -> tuple[float, float]:
    """Medians of one question after the other, in milliseconds: ``answer``, and a connection that is kept."""
    engine, service = [], []
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    try:
        for body, (question, context) in zip(requests, pairs, strict=True):
            began = time.perf_counter()
            qa.answer(question, context)
            asked = time.perf_counter()
            connection.request("POST", "/answer", body, _JSON)
            response = connection.getresponse()
            response.read()
            ended = time.perf_counter()
            if response.status != 200:
                raise ServiceError(f"{address} does not answer: status {response.status}.")
            engine.append(1000 * (asked - began))
            service.append(1000 * (ended - asked))
    except (OSError, http.client.HTTPException) as error:
        raise ServiceError(f"{address} cannot be reached: {error}.") from error
    finally:
        connection.close()
    # The first few find nothing in any cache.
    warm = min(_WARM, len(engine) // 2)
    return statistics.median(engine[warm:]), statistics.median(service[warm:])


def _full(
    address: str,
    qa: QuestionAnswerer,
    requests: Sequence[bytes],
    pairs: Sequence[tuple[str, str]],
    clients: int,
) -> tuple[float, float, float]:
    """Answers a second: of ``answer_many``, and of the service to clients that ask one after the other.

    Both answer each question equally often. The third is what the clients took of the time of all cores.
    """
    began = time.perf_counter()
    for _ in range(_PASSES):
        for _ in qa.answer_many(pairs):
            pass
    engine = time.perf_counter() - began
    asked = list(requests) * _PASSES
    began, used = time.perf_counter(), time.process_time()
    outcomes = closed_loop(f"{address}/answer", asked, clients=clients, seconds=None, patience=30)
    service, used = time.perf_counter() - began, time.process_time() - used
    answered = sum(outcome.fate == "ok" for outcome in outcomes)
    return _PASSES * len(pairs) / engine, answered / service, used / service / usable_cores()

"""Requests that the OpenAPI description allows, and some that it forbids: no server error that nobody meant.

``make fuzz-serve REQUESTS=50000`` sends that many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastspan import QuestionAnswerer
from support.serving.http_service import PAIR, ask, serving

schemathesis = pytest.importorskip("schemathesis")
pytest.importorskip("uvicorn")

from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as some  # noqa: E402

from fastspan.serving import Limits, Service  # noqa: E402
from fastspan.serving.scheduling.answering import PROTOCOLS  # noqa: E402

# Deprecations between the packages of this environment are not the service's.
pytestmark = pytest.mark.filterwarnings("ignore")

# A request may say that it has a millisecond; a deadline that it sets itself and misses is no fault.
MEANT = {504}


@pytest.fixture(scope="module")
def port(tiny_bundle: Path) -> Iterator[int]:
    with (
        QuestionAnswerer.load(tiny_bundle, variant="fp32", provider="cpu", threads=1) as qa,
        serving(Service(qa, Limits(windows=64, pairs=64))) as port,
    ):
        yield port


@pytest.fixture(scope="module")
def operations(port: int) -> dict[str, Any]:
    found = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    return {operation.label: operation for operation in map(_well, found.get_all_operations())}


def _well(result: Any) -> Any:
    return result.ok()


def test_the_description_has_every_route(operations: dict[str, Any]) -> None:
    assert {"POST /answer", "POST /", "GET /", "GET /info", "POST /v2/models/{bundle}/infer"} <= set(
        operations
    )
    assert len(operations) > len(PROTOCOLS)


def sent(operation: Any, mode: Any, cases: int) -> Counter[int]:
    """Send requests of one route; how many got each status."""
    counted: Counter[int] = Counter()

    # Of one seed, so that a fault is found again.
    @seed(0)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), name=some.sampled_from(["tiny-qa", None]))
    def send(case: Any, name: str | None) -> None:
        if name is not None and "bundle" in (case.path_parameters or {}):
            # A made-up name alone would never reach the protocol.
            case.path_parameters["bundle"] = name
        response = case.call()
        counted[response.status_code] += 1
        assert response.status_code < 500 or response.status_code in MEANT, (case, response.content)

    send()
    return counted


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "forbidden"])
def test_no_request_gets_a_server_error(
    port: int, operations: dict[str, Any], allowed: bool, request: pytest.FixtureRequest
) -> None:
    mode = schemathesis.GenerationMode.POSITIVE if allowed else schemathesis.GenerationMode.NEGATIVE
    chosen = [one for one in operations.values() if allowed or one.method == "post"]
    cases = request.config.getoption("--fuzz-cases") // (2 * len(chosen)) + 1
    statuses = {operation.label: sent(operation, mode, cases) for operation in chosen}
    for label, counted in statuses.items():
        print(f"{label}: {sum(counted.values())} requests, {dict(sorted(counted.items()))}")
    in_all = sum(statuses.values(), Counter())
    # Those that are allowed reach the model, and those that are not are refused.
    assert in_all[200] > 0 if allowed else in_all[422] > 0
    assert ask(port, "POST", "/answer", PAIR)[0] == 200

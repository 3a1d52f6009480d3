"""Several bundles behind one service: routed by name, swapped while requests come, and compared."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastspan import BundleError, InputError, QuestionAnswerer
from support.serving.http_service import LONG_CONTEXT, PAIR, WAIT, ask, command, raw, refused, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Service, Settings

ADMIN = {"Authorization": "Bearer admin"}


def load(bundle: Path, variant: str = "fp32") -> QuestionAnswerer:
    return QuestionAnswerer.load(
        bundle, variant=variant, provider="cpu", threads=2, optimize_for="throughput", kernels=False
    )


@pytest.fixture
def two(tiny_bundle: Path) -> Iterator[dict[str, QuestionAnswerer]]:
    found = {"a": load(tiny_bundle), "b": load(tiny_bundle, "int8")}
    yield found
    for answerer in found.values():
        answerer.close()


def test_requests_name_the_bundle_that_answers(two: dict[str, QuestionAnswerer]) -> None:
    with serving(Service(two)) as port:
        for name, answerer in two.items():
            expected = answerer.answer(**PAIR).to_dict()
            status, found = ask(port, "POST", f"/bundles/{name}/answer", PAIR)
            assert (status, found["null_score"]) == (200, pytest.approx(expected["null_score"], abs=1e-5))
            assert ask(port, "POST", f"/bundles/{name}", {"inputs": PAIR})[0] == 200
            assert ask(port, "GET", f"/v2/models/{name}")[1]["name"] == name
        first = two["a"].answer(**PAIR).null_score
        assert ask(port, "POST", "/answer", PAIR)[1]["null_score"] == pytest.approx(first, abs=1e-5)
        assert "only a, b" in refused(port, "/bundles/c/answer", PAIR, 404, "not_found")
        info = ask(port, "GET", "/info")[1]
        assert [(one["name"], one["variant"]) for one in info["bundles"]] == [("a", "fp32"), ("b", "int8")]


def test_a_swap_fails_no_request(tiny_bundle: Path) -> None:
    """Clients ask all the time while the bundle is swapped for its other variant, several times."""
    variants = iter(["int8", "fp32", "int8", "fp32"])
    loaded = [load(tiny_bundle)]
    statuses: list[int] = []
    scores: set[float] = set()
    stop = threading.Event()

    def again(_: str) -> QuestionAnswerer:
        loaded.append(load(tiny_bundle, next(variants)))
        return loaded[-1]

    def client(port: int) -> None:
        while not stop.is_set():
            status, found = ask(port, "POST", "/answer", {**PAIR, "context": LONG_CONTEXT})
            statuses.append(status)
            scores.add(round(found.get("null_score", 0.0), 4))

    service = Service({"a": loaded[0]}, settings=Settings(admin_keys=("admin",)), load=again)
    with serving(service) as port:
        clients = [threading.Thread(target=client, args=(port,)) for _ in range(3)]
        for one in clients:
            one.start()
        for variant in ("int8", "fp32", "int8"):
            status, found = ask(port, "POST", "/admin/reload", {"bundle": "a"}, **ADMIN)
            assert (status, found["reloaded"], found["bundles"][0]["variant"]) == (200, "a", variant)
            status, found = ask(port, "POST", "/answer", {**PAIR, "context": LONG_CONTEXT})
            statuses.append(status)
            scores.add(round(found["null_score"], 4))
        stop.set()
        for one in clients:
            one.join(WAIT)
        deadline = time.monotonic() + WAIT
        # Those that were replaced give their memory back.
        while not all(repr(one).endswith("closed>") for one in loaded[:-1]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert set(statuses) == {200}
    assert len(scores) == 2
    loaded[-1].close()


def test_what_does_not_load_leaves_the_old_one(two: dict[str, QuestionAnswerer]) -> None:
    def broken(_: str) -> Any:
        raise BundleError("The bundle is damaged.")

    with serving(Service(two, settings=Settings(admin_keys=("admin",)), load=broken)) as port:
        assert "damaged" in refused(port, "/admin/reload", {}, 500, "failed", **ADMIN)
        assert ask(port, "POST", "/answer", PAIR)[0] == 200
        assert "only a, b" in refused(port, "/admin/reload", {"bundle": "c"}, 404, "not_found", **ADMIN)
        assert "must be a string" in refused(port, "/admin/reload", {"bundle": 3}, 422, "invalid", **ADMIN)


def test_a_shadow_is_compared_and_answers_nobody(tiny_bundle: Path) -> None:
    both = {"a": load(tiny_bundle), "same": load(tiny_bundle)}
    with serving(Service(both, shadow="same")) as port:
        for _ in range(3):
            assert ask(port, "POST", "/answer", PAIR)[0] == 200
            deadline = time.monotonic() + WAIT
        while ask(port, "GET", "/info")[1]["bundles"][-1]["compared"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert ask(port, "GET", "/info")[1]["bundles"][-1] == {
            "shadow": "same",
            "compared": 3,
            "agreement": 1.0,
            "skipped": 0,
        }
        text = raw(port, "GET", "/metrics")[2]
        assert b'fastspan_shadow_answers_total{agree="yes",bundle="same"} 3.0' in text
    for answerer in both.values():
        answerer.close()


def test_a_shadow_must_be_another(two: dict[str, QuestionAnswerer]) -> None:
    for name in ("a", "c"):
        with pytest.raises(InputError, match="shadow must be one of the other"):
            Service(two, shadow=name)
    with pytest.raises(InputError, match="needs a bundle"):
        Service({})


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
def test_the_command_serves_several_and_loads_them_anew(tiny_bundle: Path) -> None:
    sources = (f"a={tiny_bundle}", f"b={tiny_bundle}", "--variant", "fp32", "--threads", "1")
    with command(*sources) as (process, port):
        assert ask(port, "POST", "/bundles/b/answer", PAIR)[0] == 200
        process.send_signal(signal.SIGHUP)
        for _ in range(20):
            assert ask(port, "POST", "/answer", PAIR)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0
        # The second bundle's line, and nothing else.
        assert process.stderr.read().count("\n") == 1

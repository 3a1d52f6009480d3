"""Threads that compute are nicer than the event loop."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.serving.http_service import PAIR, ask, scripted, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Service
from fastspan.serving.scheduling.giving_way import give_way

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@needs_linux
def test_runs_give_way_and_nothing_else_does(tiny_bundle: Path) -> None:
    found: list[int] = []

    def look(windows: Sequence[Any], deadline: float | None) -> None:
        found.append(niceness())

    before = niceness()
    with scripted(tiny_bundle, look) as qa, serving(Service(qa)) as port:
        assert ask(port, "POST", "/answer", PAIR)[0] == 200
    assert found == [min(before + 5, 19)]
    assert niceness() == before


@needs_linux
def test_where_it_is_forbidden_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    give_way()

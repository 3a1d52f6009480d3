"""What a request leaves in memory: nothing for the collector of cycles, which stops all threads."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serving.http_service import PAIR, ask, scripted, serving

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastspan.serving import Service
from fastspan.serving.scheduling import answering
from fastspan.serving.scheduling.jobs import Job


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Within, nothing is collected."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.usefixtures("uncollected")
def test_a_request_leaves_nothing_to_collect(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    monkeypatch.setattr(answering, "_UNWATCHED_S", 0.001 if watched else 60.0)
    with scripted(tiny_bundle, lambda *_: time.sleep(0.05), threads=1) as qa, serving(Service(qa)) as port:
        asked = [ask(port, "POST", "/answer", PAIR) for _ in range(6)]
        assert [status for status, _ in asked] == [200] * 6
        # The latest may be on its way out still.
        assert sum(type(found) is Job for found in gc.get_objects()) <= 1

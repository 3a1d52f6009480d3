"""A service in a thread or a process of its own, and requests to it over real sockets."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastspan import LoadOptions, QuestionAnswerer
from fastspan.loading import load_bundle
from fastspan.runtime.session import Logits, Session
from fastspan.text.encoder import Window

__all__ = [
    "CONTEXT",
    "LONG_CONTEXT",
    "PAIR",
    "QUESTION",
    "WAIT",
    "ScriptedSession",
    "ask",
    "command",
    "raw",
    "refused",
    "scripted",
    "serving",
]

QUESTION = "who built the stone bridge?"
CONTEXT = "the norman leader rollo built the stone bridge in the year of snow. the river was blue."
LONG_CONTEXT = " ".join([CONTEXT] * 40)
PAIR = {"question": QUESTION, "context": CONTEXT}
WAIT = 30


@contextmanager
def serving(service: Any, tls: tuple[Path, Path] | None = None) -> Iterator[int]:
    """Serve in a thread of this process, without its signals; yields the port."""
    server_module = pytest.importorskip("fastspan.serving.server")
    with server_module.listen("127.0.0.1", 0) as listening:
        server = server_module._Server(service, tls)
        service.on_failure = server.stop
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(WAIT)
            assert not thread.is_alive()


def raw(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and content of one request; a body that is no bytes is sent as JSON."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Status and parsed JSON of one request."""
    status, found, content = raw(port, method, path, body, **headers)
    assert found["content-type"] == "application/json"
    return status, json.loads(content, parse_constant=pytest.fail)


def refused(port: int, path: str, body: Any, status: int, kind: str, **headers: str) -> str:
    """The sentence with which a request is refused."""
    found, error = ask(port, "POST", path, body, **headers)
    assert (found, error.get("error_type")) == (status, kind), error
    assert set(error) == {"error", "error_type"}
    return error["error"]


class ScriptedSession:
    """A session that does something else first, such as wait or fail.

    Args:
        session: The true one.
        first: Called with the windows and the deadline of each run.
    """

    def __init__(self, session: Session, first: Callable[[Sequence[Window], float | None], None]) -> None:
        self.graph, self.settings, self.shared_with_cpu = session.graph, session.settings, ""
        self.providers, self.out_of_memory_retries = session.providers, 0
        self._first = first
        self._session = session

    def run(self, windows: Sequence[Window], *, deadline: float | None = None) -> tuple[Logits, Logits]:
        self._first(windows, deadline)
        return self._session.run(windows, deadline=deadline)


def scripted(
    bundle: Path, first: Callable[[Sequence[Window], float | None], None], **options: Any
) -> QuestionAnswerer:
    """An answerer whose every run does something else first."""
    chosen = {"variant": "fp32", "provider": "cpu", "threads": 2, "optimize_for": "throughput", **options}
    loaded = load_bundle(bundle, None, LoadOptions(**chosen))
    return QuestionAnswerer(replace(loaded, session=ScriptedSession(loaded.session, first)))


@contextmanager
def command(
    *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``fastspan serve`` as a process of its own, and its port."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "fastspan", "serve", *arguments, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        line = process.stderr.readline()
        found = re.search(r"at https?://127\.0\.0\.1:(\d+);", line)
        assert found, line + process.stderr.read()
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()

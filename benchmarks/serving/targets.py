"""The services that are compared, each a process of its own over the same bundle and threads."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from fastspan.benchmarks.peers.environments import PROJECT, interpreter
from fastspan.benchmarks.serving.load import ServiceError
from fastspan.errors import MissingDependency

__all__ = ["OURS", "TARGETS", "Started", "started"]


@dataclass(frozen=True, slots=True)
class Started:
    """How a service is started.

    Attributes:
        module: What Python runs; the bundle follows its arguments.
        arguments: Of the module.
        environment: As ``environments.interpreter`` has it.
        needs: A package of this environment that it cannot do without.
        sheds: Whether it takes ``--max-wait-ms``.
    """

    module: str
    arguments: tuple[str, ...] = ()
    environment: str = PROJECT
    needs: str = ""
    sheds: bool = False


OURS = "FastSpan"
"""The service itself, as it is."""

TARGETS: Mapping[str, Started] = {
    OURS: Started("fastspan", ("serve", "--port", "0"), sheds=True),
    "FastSpan, batching off": Started("fastspan.benchmarks.serving.unshared", sheds=True),
    "FastAPI around the same engine": Started("fastspan.benchmarks.serving.naive_fastapi", needs="fastapi"),
    "MLServer around the same engine": Started(
        "fastspan.benchmarks.serving.mlserver_runtime", environment="mlserver"
    ),
}
"""The services by name."""

_FOLDER = Path(__file__).parent
_START_S = 120
_STOP_S = 30
_ADDRESS = re.compile(r"at (http://127\.0\.0\.1:(\d+));")


@contextmanager
def started(name: str, bundle: str, threads: int | None, wait_ms: int | None = None) -> Iterator[str]:
    """Start a service; yields its address, and ends it afterwards.

    Args:
        name: One of ``TARGETS``.
        bundle: The bundle's folder.
        threads: Threads that it computes with; None: it chooses.
        wait_ms: The longest that a request may wait for its run, where the service has such a limit; None:
            its own.

    Raises:
        MissingDependency: What it needs is not installed, and cannot be.
        ServiceError: It ends before it answers; the message has its last words.
    """
    target = TARGETS[name]
    if target.needs and find_spec(target.needs) is None:
        raise MissingDependency(f"{target.needs} is not installed: run pip install {target.needs}.")
    python = interpreter(target.environment, folder=_FOLDER)
    command = [python, "-m", target.module, *target.arguments, bundle]
    if threads is not None:
        command += ["--threads", str(threads)]
    if wait_ms is not None and target.sheds:
        command += ["--max-wait-ms", str(wait_ms)]
    # To a file, which never fills up as a pipe that nobody reads does.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        try:
            yield _address(process, said, name)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], said: IO[str], name: str) -> str:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        said.seek(0)
        text = said.read()
        if (found := _ADDRESS.search(text)) and _listens(int(found[2])):
            return found[1]
        if process.poll() is not None:
            raise ServiceError(f"{name} ended before it answered: {text.strip()[-500:] or 'it said nothing'}")
        time.sleep(0.05)
    raise ServiceError(f"{name} did not begin to answer within {_START_S} seconds.")


def _listens(port: int) -> bool:
    """Whether a port takes connections."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0

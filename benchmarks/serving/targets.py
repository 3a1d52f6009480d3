"""The services that are compared, each a process of its own over the same bundle and threads."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import IO

from fastspan.benchmarks.serving.load import ServiceError

__all__ = ["TARGETS", "missing", "started"]

TARGETS: Mapping[str, tuple[str, ...]] = {
    "FastSpan": ("fastspan", "serve", "--port", "0"),
    "FastSpan, batching off": ("fastspan.benchmarks.serving.unshared",),
    "FastAPI around the same engine": ("fastspan.benchmarks.serving.naive_fastapi",),
}
"""Names of the services, and the module and arguments that start each; the bundle follows."""

_NEEDS = {"FastAPI around the same engine": "fastapi"}
_START_S = 120
_STOP_S = 30
_ADDRESS = re.compile(r"at (http://127\.0\.0\.1:\d+);")


def missing(name: str) -> str:
    """Return the package that a service needs and that is not installed; empty: none."""
    needed = _NEEDS.get(name, "")
    return needed if needed and find_spec(needed) is None else ""


@contextmanager
def started(name: str, bundle: str, threads: int | None) -> Iterator[str]:
    """Start a service; yields its address, and ends it afterwards.

    Raises:
        ServiceError: It ends before it answers; the message has its last words.
    """
    module, *rest = TARGETS[name]
    command = [sys.executable, "-m", module, *rest, bundle]
    if threads is not None:
        command += ["--threads", str(threads)]
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
        if found := _ADDRESS.search(text):
            return found[1]
        if process.poll() is not None:
            raise ServiceError(f"{name} ended before it answered: {text.strip()[-500:] or 'it said nothing'}")
        time.sleep(0.05)
    raise ServiceError(f"{name} did not begin to answer within {_START_S} seconds.")

"""The process a peer lives in: loads it once, then answers requests over a pipe until told to end.

Run as ``python -m fastspan.benchmarks.peers.worker DESCRIPTOR``, the descriptor being an inherited end of a
pipe. Standard output stays free for whatever the peer's libraries print.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from fastspan.benchmarks.peers.protocol import Job, Peer, Staged
from fastspan.benchmarks.questions.workloads import Workload, load_workload

__all__ = ["Server", "main", "serve"]

_PR_SET_PDEATHSIG = 1


class Server(Protocol):
    """What answers requests.

    Attributes:
        ended: Whether a request said to end.
    """

    ended: bool

    def reply(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a request asks for, and return what goes back over the pipe."""


def main(arguments: Sequence[str]) -> None:
    """Serve requests to a peer until the pipe closes or one says to end."""
    serve(int(arguments[0]), _Server())


def serve(descriptor: int, server: Server) -> None:
    """Serve requests until the pipe closes or one says to end.

    Args:
        descriptor: An inherited end of a pipe.
        server: What answers.
    """
    _end_with_parent()
    with Connection(descriptor) as pipe:
        while not server.ended:
            try:
                request = json.loads(pipe.recv_bytes())
            except EOFError:
                return
            try:
                reply = server.reply(request)
            except Exception as error:  # noqa: BLE001 - whatever a peer raises is its failure, not ours
                reply = {"error": f"{type(error).__name__}: {error}"}
            pipe.send_bytes(json.dumps(reply).encode())


class _Server:
    """A peer and the workload it is at."""

    def __init__(self) -> None:
        self.ended = False
        self._peer: Peer | None = None
        self._workload: Workload | None = None

    def reply(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a request asks for, and return what goes back over the pipe.

        Raises:
            ValueError: The request is of no known kind.
            RuntimeError: A peer or a workload is asked for before there is one.
        """
        match request["do"]:
            case "load":
                return self._load(request)
            case "prepare":
                self._workload = load_workload(Path(request["path"]))
                return {"batching": self._loaded.prepare(self._workload)}
            case "run":
                return self._run(int(request["unrecorded"]), int(request["times"]))
            case "answers":
                return {"answers": self._loaded.run(load_workload(Path(request["path"])))}
            case "stages":
                if not isinstance(self._loaded, Staged):
                    return {"stages": {}}
                return {"stages": self._loaded.stages(self._prepared, int(request["times"]))}
            case "end":
                self.ended = True
                return {}
            case other:
                raise ValueError(f"{other!r} is no request")

    @property
    def _loaded(self) -> Peer:
        if self._peer is None:
            raise RuntimeError("nothing is loaded")
        return self._peer

    @property
    def _prepared(self) -> Workload:
        if self._workload is None:
            raise RuntimeError("no workload is prepared")
        return self._workload

    def _load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        module = importlib.import_module(f"fastspan.benchmarks.peers.systems.{request['module']}")
        began = time.perf_counter()
        self._peer = module.load(Job.from_json(request["job"]))
        return {"seconds": time.perf_counter() - began, "description": self._loaded.describe()}

    def _run(self, unrecorded: int, times: int) -> dict[str, Any]:
        peer, workload = self._loaded, self._prepared
        for _ in range(unrecorded):
            peer.run(workload)
        seconds, cpu_seconds = [], []
        # A collection that happens to fall into one peer's run would be charged to it.
        gc.collect()
        gc.disable()
        try:
            for _ in range(times):
                cpu_began, began = time.process_time(), time.perf_counter()
                peer.run(workload)
                ended, cpu_ended = time.perf_counter(), time.process_time()
                seconds.append(ended - began)
                cpu_seconds.append(cpu_ended - cpu_began)
        finally:
            gc.enable()
        return {"seconds": seconds, "cpu_seconds": cpu_seconds}


def _end_with_parent() -> None:
    """Let the kernel end this process with its parent: a stopped process cannot notice that by itself."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])

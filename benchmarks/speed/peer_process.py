"""A measured system in a process of its own, stopped (SIGSTOP) except while it answers.

Idle threads of most runtimes spin for a while after a run, and would take cores from whoever is measured
next.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastspan.errors import FastSpanError, MissingDependency

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PeerError", "PeerProcess", "import_psutil"]

_WORKER = "fastspan.benchmarks.peers.worker"
_END_S = 10.0


class PeerError(FastSpanError):
    """A peer's process failed, ended or did not answer in time; the message says what it said last."""


class PeerProcess:
    """A system in a process of its own, stopped except while it answers.

    Args:
        name: Its name.
        python: Interpreter of its environment.
        module: Its module in ``fastspan.benchmarks.peers.systems``.
        job: What it is to load, as ``Job.to_json`` gives it.
        log: File for whatever it prints.
        timeout: Seconds that an answer may take.
        load_timeout: Seconds that loading may take; the first time, some peers quantize a model.
        worker: Module to run.

    Attributes:
        usable: Whether it can be asked anything further.
        start_seconds: From starting the process until it was loaded.
        load_seconds: Loading alone.
        description: What runs, name → value.

    Raises:
        PeerError: It does not start, or loading fails.
    """

    def __init__(
        self,
        name: str,
        *,
        python: str,
        module: str,
        job: Mapping[str, Any],
        log: Path,
        timeout: float = 600.0,
        load_timeout: float = 900.0,
        worker: str = _WORKER,
    ) -> None:
        self.name = name
        self._log = log
        self._timeout = timeout
        self.usable = True
        ours, theirs = Pipe()
        self._pipe: Connection = ours
        began = time.perf_counter()
        with log.open("wb") as output, theirs:
            try:
                self._process = subprocess.Popen(
                    [python, "-m", worker, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # A group of its own, so that its children are stopped and ended with it.
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise PeerError(f"{name} could not be started with {python}: {error}") from error
        try:
            loaded = self.ask("load", timeout=load_timeout, module=module, job=dict(job))
        except BaseException:
            self.close()
            raise
        self.start_seconds = time.perf_counter() - began
        self.load_seconds = float(loaded["seconds"])
        self.description: dict[str, str] = loaded["description"]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, do: str, *, timeout: float | None = None, **arguments: Any) -> dict[str, Any]:
        """Let it run, send a request, wait for the answer, and stop it again.

        Args:
            do: What to do; see ``peers.worker``.
            timeout: Seconds to wait; None: as many as the process was made with.
            **arguments: The rest of the request.

        Raises:
            PeerError: It failed, ended, or did not answer in time.
        """
        if timeout is None:
            timeout = self._timeout
        self._signal(signal.SIGCONT)
        try:
            self._pipe.send_bytes(json.dumps({"do": do, **arguments}).encode())
            if not self._pipe.poll(timeout):
                # Its answer may still come, and would be taken for that to a later request.
                self.usable = False
                raise PeerError(f"{self.name} did not answer {do!r} within {timeout:.0f} s.")
            reply: dict[str, Any] = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            self.usable = False
            raise PeerError(f"{self.name} ended while asked to {do}: {self._last_words()}") from error
        finally:
            self._signal(signal.SIGSTOP)
        if "error" in reply:
            raise PeerError(f"{self.name} could not {do}: {reply['error']}")
        return reply

    def cpu_seconds(self) -> float:
        """Processor seconds its process has used so far."""
        times = import_psutil().Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """The most memory it held resident so far, in bytes.

        What it holds now where the system does not say that; 0 where the process is gone.
        """
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        psutil = import_psutil()
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def close(self) -> None:
        """End it, by force where it does not end by itself, or did not answer before."""
        if self.usable and self._process.poll() is None:
            self._signal(signal.SIGCONT)
            with contextlib.suppress(OSError):
                self._pipe.send_bytes(b'{"do": "end"}')
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            text = self._log.read_text(encoding="utf-8", errors="replace").strip()
            if text:
                return text.splitlines()[-1][-300:]
        return "it left no message"


def import_psutil() -> Any:
    """Return psutil.

    Raises:
        MissingDependency: It is not installed.
    """
    try:
        import psutil
    except ImportError as error:
        raise MissingDependency(
            'Measuring needs psutil: run pip install "fastspan[bench]", or `make dev`.'
        ) from error
    return psutil

"""Several processes behind one port: each answers by itself, and one that dies is replaced.

The first process opens the port, loads the bundles and forks the others. They inherit the open socket, and
the kernel hands each connection to one that waits. They share the memory of what was loaded, weights as ONNX
Runtime laid them out included, until one of them writes to it. The first process starts no threads, so that
whoever is forked at any time finds no lock taken. Metrics lie in files of a folder that all share, so that
whichever is asked adds them up.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from fastspan.errors import InferenceError, InputError
from fastspan.serving.settings import FOLDER_VARIABLE

__all__ = ["shared_metrics", "supervise"]

# A process that dies before it has lived so long was not killed by accident: so many in a row are enough.
_LEAST_LIFE = 10.0
_MOST_SHORT_LIVES = 3


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Let processes forked within add up their metrics; what counts them is to be imported within."""
    first = os.getpid()
    # Not TemporaryDirectory: its end in a child would be the folder's end for all.
    folder = tempfile.mkdtemp(prefix="fastspan-metrics-")
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = folder
    try:
        yield
    finally:
        # Where the first process was killed, those that end after it clear up.
        if os.getpid() == first or os.getppid() != first:
            shutil.rmtree(folder, ignore_errors=True)
        if os.getpid() == first:
            del os.environ[FOLDER_VARIABLE]
            if before is not None:
                os.environ[FOLDER_VARIABLE] = before


def supervise(
    listening: socket.socket, count: int, grace: float, load_anew: Callable[[], None] = lambda: None
) -> bool:
    """Keep processes running until SIGTERM or SIGINT; SIGHUP is passed on to them.

    It returns in each of them, which is then to serve, and in the end in the process that called it. It is
    called within ``shared_metrics``.

    Args:
        listening: The socket that they share. The caller's own is closed in the end.
        count: How many.
        grace: Seconds that they may take to end.
        load_anew: Called after SIGHUP, so that one which takes another's place later begins with what the
            others have loaded.

    Returns:
        Whether this process is one of them.

    Raises:
        KeyboardInterrupt: SIGINT came; the shutdown was in good order all the same.
        InferenceError: Processes died as soon as they were started.
        InputError: This system has no such processes.
    """
    if sys.platform == "win32":
        raise InputError("--workers needs a system that forks processes, which Windows is not.")
    first = os.getpid()
    supervisor = _Supervisor(count, load_anew)
    with supervisor.signals():
        try:
            if supervisor.run():
                threading.Thread(target=_end_with_parent, args=(first,), daemon=True).start()
                return True
        finally:
            if os.getpid() == first:
                listening.close()
                supervisor.stop(grace)
    if supervisor.interrupted:
        raise KeyboardInterrupt
    return False


def _end_with_parent(parent: int) -> None:
    """Stop once the process that started this one is gone, however it went: nobody would replace it."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


class _Supervisor:
    """Keeps so many processes alive, and hands signals on to them."""

    def __init__(self, count: int, load_anew: Callable[[], None]) -> None:
        self._count = count
        self._load_anew = load_anew
        self._born: dict[int, float] = {}
        self._asked_to_stop = threading.Event()
        self._asked_to_load = False
        self.interrupted = False

    def run(self) -> bool:
        """Start the processes, and replace those that die, until asked to stop; True in each of them."""
        short_lives = 0
        while not self._asked_to_stop.is_set():
            if self._asked_to_load:
                self._asked_to_load = False
                self._load_anew()
            for process, born in list(self._born.items()):
                if (code := self._ended(process)) is None:
                    continue
                short_lives = short_lives + 1 if time.monotonic() - born < _LEAST_LIFE else 0
                if short_lives >= _MOST_SHORT_LIVES:
                    raise InferenceError(
                        f"{short_lives} processes in a row ended soon after they began, the last with exit "
                        f"code {code}: what they wrote says why."
                    )
                sys.stderr.write(f"process {process} ended with exit code {code}; another takes its place\n")
                sys.stderr.flush()
            while len(self._born) < self._count and not self._asked_to_stop.is_set():
                if self._fork():
                    return True
            self._asked_to_stop.wait(0.1)
        return False

    def stop(self, grace: float) -> None:
        """Ask all to end, wait as long as they may take, and end those that have not."""
        self._tell(signal.SIGTERM)
        # What they do themselves when their time is over takes a moment too.
        deadline = time.monotonic() + grace + 5
        while self._born and time.monotonic() < deadline:
            if all(self._ended(process) is None for process in list(self._born)):
                time.sleep(0.02)
        self._tell(signal.SIGKILL)
        for process in self._born:
            os.waitpid(process, 0)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Within, signals are passed on."""

        def end(number: int, _: FrameType | None) -> None:
            self.interrupted = self.interrupted or number == signal.SIGINT
            self._asked_to_stop.set()

        def load(number: int, _: FrameType | None) -> None:
            self._tell(number)
            self._asked_to_load = True

        handlers = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: load}
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _fork(self) -> bool:
        """Start a process; True in itself."""
        # The collector writes to what it looks at, and what is written to is shared no more.
        gc.collect()
        gc.freeze()
        held = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        # One that comes meanwhile must not reach the child's copy of this process's handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, held)
        try:
            with warnings.catch_warnings():
                # Since Python 3.12 it warns of other threads. Those of numpy's library end before a fork.
                warnings.simplefilter("ignore", DeprecationWarning)
                process = os.fork()
            if process:
                self._born[process] = time.monotonic()
                return False
            self._born.clear()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            # Ctrl+C in a terminal reaches the first process alone, which tells the others.
            os.setsid()
            # A SIGHUP that comes before it serves waits until run_server can obey it.
            held.remove(signal.SIGHUP)
            return True
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, held)

    def _ended(self, process: int) -> int | None:
        """The exit code of a process that has ended, which is forgotten then; None: it runs."""
        ended, status = os.waitpid(process, os.WNOHANG)
        if not ended:
            return None
        from prometheus_client.multiprocess import mark_process_dead  # it looks for FOLDER_VARIABLE at once

        del self._born[process]
        mark_process_dead(process)  # type: ignore[no-untyped-call]
        return os.waitstatus_to_exitcode(status)

    def _tell(self, number: int) -> None:
        for process in list(self._born):
            # One that has ended this very moment hears nothing.
            with suppress(ProcessLookupError):
                os.kill(process, number)

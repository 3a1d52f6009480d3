"""Several processes behind one port: each answers by itself, and one that dies is replaced.

The first process opens the port and starts the others, which inherit the open socket; the kernel hands each
connection to one that waits. Every process loads the bundles itself: ONNX Runtime's threads and sessions do
not survive a fork. Metrics lie in files of a folder that all share, so that whichever is asked adds them up.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from fastspan.errors import FastSpanError, InferenceError, InputError
from fastspan.serving.observing.metrics import FOLDER_VARIABLE

__all__ = ["SOCKET_VARIABLE", "inherited_socket", "supervise"]

SOCKET_VARIABLE = "FASTSPAN_LISTENING_SOCKET"
"""The environment variable that names the inherited socket to a process that another one started."""

_PARENT_VARIABLE = "FASTSPAN_PARENT_PROCESS"

# A process that dies before it has lived so long was not killed by accident: so many in a row are enough.
_LEAST_LIFE = 10.0
_MOST_SHORT_LIVES = 3


def inherited_socket() -> socket.socket | None:
    """Return the socket that this process inherited to listen on; None: it is not one of several.

    Raises:
        InputError: The environment names something that is no socket.
    """
    named = os.environ.get(SOCKET_VARIABLE)
    if named is None:
        return None
    try:
        found = socket.socket(fileno=int(named))
    except (OSError, ValueError) as error:
        raise InputError(f"{SOCKET_VARIABLE} is {named!r}, which is no open socket: unset it.") from error
    parent = os.environ.get(_PARENT_VARIABLE, "")
    if parent.isdecimal():
        threading.Thread(target=_end_with_parent, args=(int(parent),), daemon=True).start()
    return found


def supervise(arguments: Sequence[str], listening: socket.socket, count: int, grace: float) -> None:
    """Keep processes running until SIGTERM or SIGINT; SIGHUP is passed on to them.

    Args:
        arguments: The command line of each.
        listening: The socket that they share. It is closed in the end.
        count: How many.
        grace: Seconds that they may take to end.

    Raises:
        KeyboardInterrupt: SIGINT came; the shutdown was in good order all the same.
        InferenceError: Processes died as soon as they were started.
        InputError: This system has no such processes.
    """
    if sys.platform == "win32":
        raise InputError(
            "--workers needs a system that lets processes inherit sockets, which Windows is not."
        )
    with tempfile.TemporaryDirectory(prefix="fastspan-metrics-") as folder:
        environment = {
            **os.environ,
            FOLDER_VARIABLE: folder,
            SOCKET_VARIABLE: str(listening.fileno()),
            _PARENT_VARIABLE: str(os.getpid()),
        }
        supervisor = _Supervisor(arguments, listening, environment, folder, count)
        with supervisor.signals():
            try:
                supervisor.run()
            finally:
                listening.close()
                supervisor.stop(grace)
    if supervisor.interrupted:
        raise KeyboardInterrupt


def _end_with_parent(parent: int) -> None:
    """Stop once the process that started this one is gone, however it went: nobody would replace it."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


class _Supervisor:
    def __init__(
        self,
        arguments: Sequence[str],
        listening: socket.socket,
        environment: dict[str, str],
        folder: str,
        count: int,
    ) -> None:
        self._arguments = arguments
        self._listening = listening
        self._environment = environment
        self._folder = folder
        self._count = count
        self._processes: dict[subprocess.Popen[bytes], float] = {}
        self._asked_to_stop = threading.Event()
        self.interrupted = False

    def run(self) -> None:
        """Start the processes, and replace those that die, until asked to stop."""
        short_lives = 0
        while not self._asked_to_stop.is_set():
            for process, born in list(self._processes.items()):
                if (code := process.poll()) is None:
                    continue
                del self._processes[process]
                mark_process_dead(process.pid, self._folder)  # type: ignore[no-untyped-call]
                short_lives = short_lives + 1 if time.monotonic() - born < _LEAST_LIFE else 0
                if short_lives >= _MOST_SHORT_LIVES:
                    raise InferenceError(
                        f"{short_lives} processes in a row ended soon after they began, the last with exit "
                        f"code {code}: what they wrote says why."
                    )
                sys.stderr.write(
                    f"process {process.pid} ended with exit code {code}; another takes its place\n"
                )
                sys.stderr.flush()
            while len(self._processes) < self._count and not self._asked_to_stop.is_set():
                self._start()
            self._asked_to_stop.wait(0.1)

    def stop(self, grace: float) -> None:
        """Ask all to end, wait as long as they may take, and end those that have not."""
        self._tell(signal.SIGTERM)
        # What they do themselves when their time is over takes a moment too.
        deadline = time.monotonic() + grace + 5
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Within, signals are passed on."""

        def end(number: int, _: FrameType | None) -> None:
            self.interrupted = self.interrupted or number == signal.SIGINT
            self._asked_to_stop.set()

        handlers = {signal.SIGTERM: end, signal.SIGINT: end}
        handlers[signal.SIGHUP] = lambda number, _: self._tell(number)
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _start(self) -> None:
        # A session of its own: Ctrl+C in a terminal reaches this process alone, which tells the others.
        process = subprocess.Popen(
            self._arguments,
            pass_fds=[self._listening.fileno()],
            env=self._environment,
            start_new_session=True,
        )
        self._processes[process] = time.monotonic()

    def _tell(self, number: int) -> None:
        for process in list(self._processes):
            try:
                process.send_signal(number)
            except OSError as error:  # it ended this very moment
                if process.poll() is None:
                    raise FastSpanError(f"process {process.pid} cannot be told to end: {error}") from error

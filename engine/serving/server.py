"""uvicorn around the service: a socket, signals, and a shutdown that lets requests finish."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from fastspan.errors import FastSpanError, InferenceError, InputError
from fastspan.serving.app import Service
from fastspan.serving.http.connections import connection_class
from fastspan.serving.http.encrypted import EncryptedListener
from fastspan.serving.observing.repeated_lines import counted_repeats

__all__ = ["Tls", "listen", "run_server"]

_log = logging.getLogger("fastspan.serving")

Tls = tuple[Path, Path]
"""The files of a certificate and of its key."""

# asyncio takes as many connections in one go, before any of them can be refused for being one too many.
_TAKEN_AT_ONCE = 64

# As many may wait to be taken.
_BACKLOG = 1024

# How long a thread may keep Python's lock while another asks for it: a tenth of Python's own default.
_TURN_S = 0.0005
# Runs end within milliseconds of being told to, unless the machine is overloaded.
_LAST_RUNS_S = 5.0

# Files that are open beside connections: libraries, the model, the log.
_OTHER_FILES = 256


def listen(host: str, port: int) -> socket.socket:
    """Open the socket that a server is to accept connections from.

    Args:
        host: An IPv4 or IPv6 address of this machine, or a name of it.
        port: 0 takes any free one.

    Raises:
        InputError: The address is not this machine's, or the port is taken or reserved.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port} ({error.strerror or error}): choose another host or port."
        ) from error


def run_server(service: Service, listening: socket.socket, tls: Tls | None = None) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP loads the bundles anew.

    From the signal on, the service is not ready, and every response closes its connection. Soon after, no
    connection is accepted any more; requests in flight have ``Limits.grace_seconds`` to finish.

    Args:
        service: What to serve. It cannot serve again afterwards.
        listening: As ``listen`` returns it. It is closed in the end.
        tls: What to encrypt with; None: nothing is.

    Raises:
        KeyboardInterrupt: SIGINT came; the shutdown was in good order all the same.
        InputError: The certificate or its key cannot be used, or the system allows too few open files.
        InferenceError: The model failed too often.
    """
    _allow_files(service.limits.connections)
    server = _Server(service, tls)
    service.on_failure = server.stop
    with counted_repeats(), _signals(service, server), _short_turns():
        server.run(sockets=[listening])
    # Asked to stop while it began, uvicorn leaves that out. A thread that comes back from ONNX Runtime while
    # Python ends aborts the process.
    service.close(wait=_LAST_RUNS_S)
    if service.failed:
        raise InferenceError("The model failed several times in a row, so the service stopped; see its log.")


class _Server(uvicorn.Server):
    """uvicorn's server for one service: it has its limits, and lets what is in flight finish."""

    def __init__(self, service: Service, tls: Tls | None = None) -> None:
        limits = service.limits
        config = uvicorn.Config(
            service.app,
            http=connection_class(limits, service.metrics),
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_TAKEN_AT_ONCE,
            timeout_keep_alive=limits.keep_alive_seconds,
            # The service itself ends what is in flight; this is for what does not hear of it.
            timeout_graceful_shutdown=math.ceil(limits.grace_seconds) + 2,
            ssl_certfile=None if tls is None else str(tls[0]),
            ssl_keyfile=None if tls is None else str(tls[1]),
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"The certificate or its key cannot be used: {error}.") from error
        super().__init__(config)
        self._service = service
        self._stops_at: float | None = None

    def stop(self) -> None:
        """Begin the shutdown, from any thread."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal to stop: the service is not ready from now on, and uvicorn begins its shutdown."""
        # uvicorn looks for the signal ten times a second; until then, probes should hear of it.
        self._service.drain()
        if self._stops_at is None:
            self._stops_at = time.monotonic() + self._service.limits.grace_seconds
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections, few in one go while many may wait."""
        given, context, limits = sockets or [], self.config.ssl, self._service.limits
        await super().startup(sockets if context is None else [])
        if not self.started:
            return
        for listening in given:
            listening.listen(_BACKLOG)
            if context is not None:
                encrypted = EncryptedListener(
                    listening,
                    self._connection,
                    context,
                    seconds=limits.header_seconds,
                    room=lambda: limits.connections - len(self.server_state.connections),
                )
                self.servers.append(encrypted)  # type: ignore[arg-type]

    def _connection(self) -> asyncio.Protocol:
        """Make the protocol of a connection, as uvicorn does for those that it accepts itself."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests in flight finish, until the time for that is over."""
        self._service.drain()
        now = time.monotonic()
        grace = 0.0 if self._service.failed else self._service.limits.grace_seconds
        moment = now + grace if self._stops_at is None else self._stops_at
        self._service.stop_at(moment)
        timer = asyncio.get_running_loop().call_later(max(0.0, moment - now), self._service.close)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()


@contextmanager
def _short_turns() -> Iterator[None]:
    """Within, the event loop gets Python's lock soon after it asks, also where other threads decode."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _signals(service: Service, server: _Server) -> Iterator[None]:
    """Within, SIGTERM does not end the process behind uvicorn's back, and SIGHUP loads the bundles anew."""
    # One that comes before uvicorn listens for it counts. uvicorn raises it anew after its shutdown: having
    # obeyed it is success, not death by it.
    previous = {signal.SIGTERM: signal.signal(signal.SIGTERM, server.handle_exit)}
    if hasattr(signal, "SIGHUP"):
        reload = threading.Thread(target=lambda: None)

        def hang_up(*_: object) -> None:
            nonlocal reload
            if not reload.is_alive():
                reload = threading.Thread(target=_reload_all, args=(service,), daemon=True)
                reload.start()

        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, hang_up)
        # One of several processes was started with it held back.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _reload_all(service: Service) -> None:
    for hosted in service.bundles:
        try:
            service.bundles.reload(hosted.name)
        except FastSpanError as error:
            _log.error("%s was not loaded anew, and goes on as it was: %s", hosted.name, error)


def _allow_files(connections: int) -> None:
    """Raise the number of files that this process may open, where the system lets it, to what it may need.

    Raises:
        InputError: It may not open as many.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InputError(
            f"{connections} connections need {needed} open files, and this process may open {hard}: lower "
            "--max-connections, or raise the limit (ulimit -n)."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

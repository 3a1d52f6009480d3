"""uvicorn around the service: a socket, signals, and a shutdown that lets requests finish."""

from __future__ import annotations

import signal
import socket
from types import FrameType

import uvicorn

from fastspan.errors import InputError
from fastspan.serving.app import Service

__all__ = ["GRACE_SECONDS", "listen", "run_server"]

GRACE_SECONDS = 25
"""How long requests in flight may take to finish; orchestrators commonly kill a process after 30 seconds."""


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
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port} ({error.strerror or error}): choose another host or port."
        ) from error


def run_server(service: Service, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT.

    From the signal on, the service is not ready. Soon after, no connection is accepted any more; requests in
    flight have ``GRACE_SECONDS`` to finish.

    Args:
        service: What to serve. It cannot serve again afterwards.
        listening: As ``listen`` returns it. It is closed in the end.

    Raises:
        KeyboardInterrupt: SIGINT came; the shutdown was in good order all the same.
    """
    server = _Server(service)
    # uvicorn raises the signal anew after its shutdown. Having obeyed SIGTERM is success, not death by it.
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        server.run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Server(uvicorn.Server):
    def __init__(self, service: Service) -> None:
        super().__init__(
            uvicorn.Config(
                service.app,
                lifespan="on",
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal to stop: the service is not ready from now on, and uvicorn begins its shutdown."""
        # uvicorn looks for the signal ten times a second; until then, probes should hear of it.
        self._service.drain()
        super().handle_exit(sig, frame)

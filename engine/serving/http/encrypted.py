"""Encrypted connections: handshakes that have a deadline and a limit.

asyncio's servers tell of a connection once its handshake is over. Until then it would count for no limit, and
a client that never ends its handshake would hold a file for a minute: a few lines of a script would take all
of them. So here connections are accepted first, and shake hands as many at once as there is room for.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial

__all__ = ["EncryptedListener"]

_log = logging.getLogger("fastspan.serving")

# Where no file is left, one may be soon. asyncio's own servers wait as long.
_PAUSE_S = 1.0

# So many may shake hands also where all connections are taken: of one alone, a newcomer took the place.
_LEAST_AT_ONCE = 64


class EncryptedListener:
    """Accepts connections, as an ``asyncio.Server`` of one socket does; made within a running loop.

    Args:
        listening: The socket.
        made: Makes the protocol of a connection, once its handshake is over.
        context: The certificate and its key.
        seconds: How long a handshake may take.
        room: How many connections may be added. Where as many shake hands, and a few at least, a new one
            takes the place of the one that has done so for longest.
    """

    def __init__(
        self,
        listening: socket.socket,
        made: Callable[[], asyncio.BaseProtocol],
        context: ssl.SSLContext,
        *,
        seconds: float,
        room: Callable[[], int],
    ) -> None:
        self._made = made
        self._context = context
        self._seconds = seconds
        self._room = room
        # In the order in which they began.
        self._under_way: dict[asyncio.Task[None], None] = {}
        self._loop = asyncio.get_running_loop()
        listening.setblocking(False)
        self._accepting = self._loop.create_task(self._accept(listening))

    def close(self) -> None:
        """Accept no more, and shake no more hands."""
        for task in (self._accepting, *self._under_way):
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until all of it has ended."""
        await asyncio.wait([self._accepting, *self._under_way])

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = await self._loop.sock_accept(listening)
            except OSError as error:
                _log.error("No connection can be accepted: %s", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._under_way) >= max(_LEAST_AT_ONCE, self._room()):
                oldest = next(iter(self._under_way))
                del self._under_way[oldest]
                oldest.cancel()
            task = self._loop.create_task(self._shake_hands(client))
            self._under_way[task] = None
            task.add_done_callback(partial(self._ended, client))

    async def _shake_hands(self, client: socket.socket) -> None:
        await self._loop.connect_accepted_socket(
            self._made, client, ssl=self._context, ssl_handshake_timeout=self._seconds
        )

    def _ended(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            client.close()
        # Who does not speak TLS, trusts no such certificate or goes away is no fault of the service.
        if not isinstance(error, OSError | asyncio.TimeoutError | None):
            _log.error("A connection could not be encrypted", exc_info=error)

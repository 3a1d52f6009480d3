"""How far a run is, how fast, and how long it will take: one line, rewritten on a terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from fastspan.bulk.chunks import Place

__all__ = ["Progress", "duration"]

_ON_A_TERMINAL = 0.5
_IN_A_LOG = 60.0
# The rate is that of the last so many seconds.
_RECENT = 60.0


class Progress:
    """Tells of a run.

    Args:
        stream: Where to.
        size: What ``Place.offset`` comes to at the end of the input; None where nobody knows.
        start: Where this run began.
        clock: Seconds, from any moment on.
    """

    def __init__(
        self, stream: TextIO, size: int | None, start: Place, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._size, self._clock = stream, size, clock
        self._terminal = stream.isatty()
        self._recent = deque([(clock(), start)])
        self._told = clock()

    def at(self, place: Place, rejected: int) -> None:
        """Say that everything before a place is done, unless that was said a moment ago.

        Args:
            place: The place.
            rejected: How many rows could not be answered until there.
        """
        now = self._clock()
        self._recent.append((now, place))
        while len(self._recent) > 2 and now - self._recent[1][0] >= _RECENT:
            self._recent.popleft()
        if now - self._told >= (_ON_A_TERMINAL if self._terminal else _IN_A_LOG):
            self._told = now
            line = self._line(now, place, rejected)
            self._stream.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
            self._stream.flush()

    def clear(self) -> None:
        """Leave no half a line behind."""
        if self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _line(self, now: float, place: Place, rejected: int) -> str:
        before, past = self._recent[0]
        seconds = max(now - before, 1e-9)
        parts = [f"{place.rows:,} rows", f"{(place.rows - past.rows) / seconds:,.1f} a second"]
        if self._size and place.offset:
            parts.insert(0, f"{100 * place.offset / self._size:.1f}%")
            if (speed := (place.offset - past.offset) / seconds) > 0:
                parts.append(f"{duration((self._size - place.offset) / speed)} left")
        if rejected:
            parts.append(f"{rejected:,} rejected")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Say how long: ``45 s``, ``12 min``, ``3 h 20 min`` or ``6 d 4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"

"""Lines of a log that repeat themselves are counted, not written: a flood of requests is none of lines."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["counted_repeats"]

_SECONDS = 10.0
_KINDS = 1000


@contextmanager
def counted_repeats(
    names: Sequence[str] = ("uvicorn.error", "asyncio", "fastspan.serving"),
) -> Iterator[None]:
    """Within, loggers write a line of one kind every ten seconds, and how many more there were.

    Args:
        names: The loggers.
    """
    found = _Repeats()
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(found)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(found)


class _Repeats(logging.Filter):
    """Lets a line of each kind through from time to time, and counts those between."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._seen: dict[tuple[object, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the first of its kind through, and the next when some time has passed."""
        raised = record.exc_info[1] if record.exc_info else None
        # What a line is about may stand in its arguments: its kind is its pattern.
        kind = (record.name, record.levelno, str(record.msg)[:200], type(raised), str(raised)[:200])
        now = time.monotonic()
        with self._lock:
            since, more = self._seen.get(kind, (now - _SECONDS, 0))
            if now - since < _SECONDS:
                self._seen[kind] = (since, more + 1)
                return False
            if len(self._seen) >= _KINDS:
                self._seen.clear()
            self._seen[kind] = (now, 0)
        if more:
            record.msg = f"{record.getMessage().rstrip()} ({more} more like it in {now - since:.0f} seconds)"
            record.args = ()
        return True

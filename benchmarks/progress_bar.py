"""One line on the terminal that says how far a long computation has come."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["progress_bar"]

_WIDTH = 24
_REFRESH_S = 0.1


@contextmanager
def progress_bar(label: str, total: int, stream: TextIO | None = None) -> Iterator[Callable[[], None]]:
    """Show progress on a terminal; where the stream is none, one line says what begins.

    Args:
        label: What is being done.
        total: How many steps it takes.
        stream: Where to show it; None: standard error.

    Yields:
        To be called after each step.
    """
    out = sys.stderr if stream is None else stream
    if not out.isatty():
        print(f"{label}: {total:,} …", file=out, flush=True)
        yield lambda: None
        return
    began = time.monotonic()
    done, shown = 0, 0.0

    def draw() -> None:
        elapsed = time.monotonic() - began
        rate = done / elapsed if elapsed > 0 else 0.0
        left = f"{(total - done) / rate:,.0f} s left" if rate else ""
        filled = _WIDTH * done // max(total, 1)
        bar = "█" * filled + "░" * (_WIDTH - filled)
        # \x1b[K clears what a longer line left behind.
        out.write(f"\r{label} {bar} {done:,}/{total:,}  {rate:,.1f}/s  {left}\x1b[K")
        out.flush()

    def step() -> None:
        nonlocal done, shown
        done += 1
        now = time.monotonic()
        if now - shown >= _REFRESH_S:
            shown = now
            draw()

    try:
        draw()
        yield step
    finally:
        out.write("\r\x1b[K")
        out.flush()

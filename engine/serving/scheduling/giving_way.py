"""Threads that compute give way to the event loop, which needs a core for a moment and at once.

Where as many threads run the model as there are cores, a refusal of half a millisecond would wait at every
step of its way for the end of one's turn, which is several milliseconds. Linux has a niceness a thread.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

__all__ = ["give_way"]

# A third of the event loop's weight, which gets its core at once. With less, others would starve runs.
_NICENESS = 5
_HIGHEST = 19


def give_way() -> None:
    """Let this thread give way to others of the process; other systems than Linux do not know how."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # Without it everything works all the same; a sandbox may forbid it.
        with suppress(OSError):
            niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
            os.setpriority(os.PRIO_PROCESS, thread, min(niceness, _HIGHEST))

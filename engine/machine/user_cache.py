"""Where this user's cache lies: what can be made again, and is slow to make."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["user_cache"]


def user_cache() -> Path:
    """Return FastSpan's folder in the user's cache: ``XDG_CACHE_HOME``, else the system's own place for it.

    Raises:
        RuntimeError: The user has no home folder, as in some containers, and the environment names no cache.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(home) if home else Path.home() / ".cache") / "fastspan"

"""A lock between processes: a file that the operating system frees when its holder dies."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from types import TracebackType

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


__all__ = ["FileLock"]

_PAUSE = 0.02


class FileLock:
    """A held lock; ``take`` makes one. The file is there only while the lock is held or waited for."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path, *, wait: float = 0.0) -> FileLock | None:
        """Take the lock.

        Args:
            path: The lock's file, in a folder that exists.
            wait: Seconds to wait for another holder.

        Returns:
            The lock, or None if another process or another place in this one still holds it.

        Raises:
            OSError: The file cannot be made, or its file system has no locks.
        """
        deadline = time.monotonic() + wait
        while True:
            lock = cls(path, os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
            if lock._hold():
                return lock
            if time.monotonic() >= deadline:
                return None
            time.sleep(_PAUSE)

    def _hold(self) -> bool:
        held = False
        try:
            # A holder removes the file as it lets go, and a lock on a file without a name excludes nobody.
            held = _try_lock(self._descriptor) and self._still_named()
        finally:
            if not held:
                os.close(self._descriptor)
        return held

    def _still_named(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go of the lock and remove its file. To be called once."""
        if sys.platform == "win32":
            # An open file cannot be removed there, and one that another process has opened meanwhile stays.
            os.close(self._descriptor)
            with contextlib.suppress(OSError):
                self._path.unlink()
        else:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

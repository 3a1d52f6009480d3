"""A finished folder into its place, in one step where the system can exchange two folders."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["Move", "exchange", "move_into_place"]

Move = Callable[[Path, Path], None]
"""Moves a folder to a path where nothing lies, or a bundle, or an empty folder."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_PREVIOUS = "previous"


def move_into_place(folder: Path, target: Path) -> None:
    """Move a folder to its place; a bundle that lies there ends beside where the folder came from.

    Raises:
        OSError: The file system refuses; the target is as it was then.
    """
    if not target.exists() or not any(target.iterdir()):
        if target.exists():
            target.rmdir()
        folder.rename(target)
    elif not exchange(folder, target):
        previous = folder.with_name(_PREVIOUS)
        target.rename(previous)
        try:
            folder.rename(target)
        except OSError:
            previous.rename(target)
            raise


def exchange(one: Path, other: Path) -> bool:
    """Let two paths of one file system change places in one step; False where that cannot be done."""
    if os.name == "nt":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))

"""Where a command writes: found fit before the work begins, so that no result is lost at its end."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from fastspan.bundle.whole_files import write_whole
from fastspan.errors import InputError

__all__ = ["ready_file", "ready_folder", "write_page"]


def ready_file(path: Path) -> None:
    """Refuse a file that could not be written.

    Raises:
        InputError: Its folder is missing or cannot be written to, or a folder lies in its place.
    """
    try:
        parent, folder = path.parent.is_dir(), path.is_dir()
    except OSError as error:
        # Such as a name that is too long.
        raise InputError(f"{path} cannot be written ({error.strerror}).") from error
    if not parent:
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}; make it first.")
    if folder:
        raise InputError(f"{path} cannot be written: it is a folder; name a file in it.")
    _probe(path.parent, path)


def ready_folder(path: Path) -> None:
    """Make a folder for results, with its parents, unless it is there; refuse one that cannot be written to.

    Raises:
        InputError: It cannot be made, or nothing can be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is in its place" if error.errno == errno.EEXIST else error.strerror
        raise InputError(f"{path} cannot be made a folder for results ({reason}).") from error
    _probe(path, path)


def write_page(path: Path, text: str) -> None:
    """Write a file in UTF-8, whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    try:
        write_whole(path, text.encode("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}).") from error


def _probe(folder: Path, wanted: Path) -> None:
    probe = folder / f".fastspan-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{wanted} cannot be written ({error.strerror}): choose a folder that you may write to."
        ) from error

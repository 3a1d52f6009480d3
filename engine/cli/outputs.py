"""Where a command writes: found fit before the work begins, so that no result is lost at its end."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from fastspan.bundle.hub.cache import in_hub_cache
from fastspan.bundle.whole_files import write_whole
from fastspan.errors import InputError

__all__ = ["ready_file", "ready_folder", "write_page"]


def ready_file(path: Path) -> None:
    """Refuse a file that could not be written, or that must not be replaced.

    Raises:
        InputError: Its folder is missing, cannot be written to or lies in a hub cache, or what lies in its
            place is no file: a folder, or a device such as ``/dev/null``.
    """
    _refuse_hub_cache(path)
    try:
        parent, folder = path.parent.is_dir(), path.is_dir()
        special = not folder and path.exists() and not path.is_file()
    except OSError as error:
        # Such as a name that is too long.
        raise InputError(f"{path} cannot be written ({error.strerror}).") from error
    if not parent:
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}; make it first.")
    if folder:
        raise InputError(f"{path} cannot be written: it is a folder; name a file in it.")
    if special:
        raise InputError(f"{path} cannot be written: it is a device or a pipe; name a file.")
    _probe(path.parent, path)


def ready_folder(path: Path) -> None:
    """Make a folder for results, with its parents, unless it is there; refuse one that cannot be written to.

    Raises:
        InputError: It cannot be made, nothing can be written there, or it lies in a hub cache.
    """
    _refuse_hub_cache(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is in its place" if error.errno == errno.EEXIST else error.strerror
        raise InputError(f"{path} cannot be made a folder for results ({reason}).") from error
    _probe(path, path)


def _refuse_hub_cache(path: Path) -> None:
    if in_hub_cache(path):
        raise InputError(
            f"{path} is in a hub cache, which holds nothing but what was downloaded: choose another place."
        )


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

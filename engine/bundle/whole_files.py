"""Files that are read and written whole: opened without waiting, hashed, replaced in one step."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["add_file", "open_regular", "refuse_device", "sha256_of", "write_whole"]

_CHUNK = 1 << 20
# A pipe that lies where a file should be must not be waited on.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; nothing else is opened, nor waited on.

    Raises:
        OSError: It cannot be opened, or is not a regular file.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NO_WAIT))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path} is not a regular file")
    return file


def refuse_device(path: Path) -> None:
    """Refuse to read a device, such as ``/dev/zero``, which may have no end. A pipe has one.

    Raises:
        OSError: It is a device, or cannot be looked at.
    """
    mode = path.stat().st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "it is a device, not a file", str(path))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits; other threads run meanwhile.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    add_file(digest, path)
    return digest.hexdigest()


def add_file(digest: hashlib._Hash, path: Path) -> None:
    """Add a file's content to a digest of ``hashlib``, block by block; other threads run meanwhile.

    Raises:
        OSError: The file cannot be read.
    """
    chunk = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(chunk):
            digest.update(chunk[:count])


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in one step: who reads meanwhile, or after a crash, finds the former content or this.

    Args:
        path: The file, in a folder that exists. What lies there is replaced.
        data: Its content.

    Raises:
        OSError: The file cannot be written; what lay there is left as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        # Where the folder takes no file, none is there to be removed.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)

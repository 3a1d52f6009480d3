"""A manifest's file: read whole, never more than a manifest holds, and told apart from the one before it."""

from __future__ import annotations

import os
from pathlib import Path

from fastspan.bundle.manifest import MANIFEST, Manifest
from fastspan.bundle.whole_files import open_regular
from fastspan.errors import BundleError

__all__ = ["AGAIN", "manifest_bytes", "read_manifest", "state_of"]

AGAIN = "copy the bundle again or export it again."
"""How a message about a file of a bundle ends."""

_LARGEST_MANIFEST = 16 << 20


def state_of(folder: object) -> object:
    """Return something that changes when a folder, or the manifest in it, is replaced; None for what is none.

    It tells a reader that found a bundle broken whether someone was replacing it meanwhile.
    """
    if not isinstance(folder, str | os.PathLike):
        return None
    try:
        found = [os.stat(place) for place in (folder, os.path.join(folder, MANIFEST))]  # noqa: PTH116, PTH118
    except (OSError, TypeError, ValueError):
        return None
    return [(status.st_dev, status.st_ino, status.st_ctime_ns, status.st_mtime_ns) for status in found]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest's file.

    Raises:
        IncompatibleBundle: Its format is not one this version reads.
        ChecksumMismatch: It was changed.
        BundleError: It is no manifest, or cannot be read.
    """
    return Manifest.from_json(manifest_bytes(path))


def manifest_bytes(path: Path) -> bytes:
    """Return the content of a manifest's file.

    Raises:
        BundleError: It is larger than any manifest, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            data = file.read(_LARGEST_MANIFEST + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error}): {AGAIN}") from error
    if len(data) > _LARGEST_MANIFEST:
        raise BundleError(f"{path} is larger than any manifest ({_LARGEST_MANIFEST} bytes): {AGAIN}")
    return data

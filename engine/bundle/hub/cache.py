"""Folders of a hub cache: ``models--owner--name/snapshots/<commit>``, made of links into ``blobs``."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from fastspan.bundle.whole_files import add_file

__all__ = ["COMMIT", "HubSnapshot", "hub_snapshot", "in_hub_cache", "is_intact"]

COMMIT = re.compile(r"[0-9a-f]{40}")
"""What names a commit, unlike a branch or tag that may be moved."""


@dataclass(frozen=True, slots=True)
class HubSnapshot:
    """A folder in which a hub cache shows a repository at one commit.

    Attributes:
        repository: The repository's folder in the cache.
        id: The repository's id, ``owner/name``.
        commit: The snapshot's commit; None where its name is none.
    """

    repository: Path
    id: str
    commit: str | None

    @property
    def blobs(self) -> Path:
        """Where the contents of its files lie."""
        return self.repository / "blobs"


def hub_snapshot(folder: Path) -> HubSnapshot | None:
    """Say what a folder is a snapshot of; None for one that is not in a hub cache."""
    real = _real(folder)
    repository = real.parent.parent
    kind, _, name = repository.name.partition("--")
    if real.parent.name != "snapshots" or kind != "models" or not name:
        return None
    return HubSnapshot(
        repository, name.replace("--", "/"), real.name if COMMIT.fullmatch(real.name) else None
    )


def in_hub_cache(path: Path) -> bool:
    """Whether a path, its links followed, lies where a hub cache keeps a repository.

    Every program shares that cache, and it holds nothing but what was downloaded: nothing is written there.
    """
    real = _real(path)
    return any(
        re.fullmatch("(models|datasets|spaces)--.+", place.name) and (place / "snapshots").is_dir()
        for place in (real, *real.parents)
    )


def _real(path: Path) -> Path:
    # Not resolve(), which raises RuntimeError for links in a circle before Python 3.13.
    return Path(os.path.realpath(path))


def is_intact(file: Path) -> bool:
    """Whether a file of a snapshot still is what was downloaded.

    A blob is named after its ETag: the SHA-256 of a large file, the Git id of a small one. Where the cache
    has no links, or a hub names its files otherwise, there is nothing to compare with.

    Raises:
        OSError: It cannot be read.
    """
    blob = file.resolve()
    if blob.parent.name != "blobs":
        return True
    size = blob.stat().st_size
    if re.fullmatch("[0-9a-f]{64}", blob.name):
        digest = hashlib.sha256()
    elif re.fullmatch("[0-9a-f]{40}", blob.name):
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    else:
        return True
    add_file(digest, blob)
    return digest.hexdigest() == blob.name

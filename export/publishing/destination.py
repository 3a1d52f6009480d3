"""What may lie where a bundle is published: nothing, or a bundle of what exports wrote alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from fastspan.bundle.beside.evaluations import EVALUATIONS
from fastspan.bundle.manifest import MANIFEST
from fastspan.bundle.manifest_file import manifest_bytes
from fastspan.errors import BundleError

__all__ = ["refuse_destination"]

# What hubs and file managers put into a folder: it is theirs, and they make it again.
_LITTER = re.compile(rf"\.(DS_Store|gitattributes|gitignore|cache|huggingface|{re.escape(MANIFEST)}[.-].*)")
# Written by every export, or by `fastspan eval --record`, and never part of what is promised.
_BESIDE = ("README.md", EVALUATIONS)
_ELSEWHERE = "choose another destination, or move it away."


def refuse_destination(target: Path) -> None:
    """Refuse a destination that holds anything which no export wrote, because replacing it would lose that.

    Args:
        target: The bundle's folder; it need not exist.

    Raises:
        BundleError: It is a file, no bundle, a Git working tree, or a bundle with files of someone else's.
        OSError: It cannot be read.
    """
    if not target.name:
        raise BundleError(f"{target} is the root of a file system: name a folder for the bundle.")
    if target.is_symlink():
        # Links that lead somewhere were followed before.
        raise BundleError(f"{target} is a link that leads in a circle: {_ELSEWHERE}")
    if not target.exists():
        return
    if not target.is_dir():
        raise BundleError(f"{target} is a file: choose another destination for the bundle.")
    if not any(target.iterdir()):
        return
    if (target / ".git").exists():
        raise BundleError(
            f"{target} is a Git working tree, whose history would be lost: export elsewhere and copy the "
            "files."
        )
    if not (target / MANIFEST).is_file():
        raise BundleError(f"{target} is a folder that is no bundle: choose another destination, or empty it.")
    listed = _listed(target)
    foreign = sorted(path for path in _contents(target) if path not in listed)
    if foreign:
        more = f" and {len(foreign) - 1} more files" if len(foreign) > 1 else ""
        raise BundleError(
            f"{target} holds {foreign[0]}{more}, which no export wrote and replacing the bundle would "
            f"delete: {_ELSEWHERE}"
        )


def _listed(target: Path) -> set[str]:
    """The files that a manifest lists, be it damaged or of another format; it must be recognizably ours."""
    try:
        document = json.loads(manifest_bytes(target / MANIFEST))
    except (ValueError, RecursionError):
        document = None
    version = document.get("format") if isinstance(document, dict) else None
    if not isinstance(version, str) or not re.fullmatch(r"\d+\.\d+", version):
        raise BundleError(
            f"{target / MANIFEST} is no manifest of FastSpan, so the folder is no bundle: {_ELSEWHERE}"
        )
    files = document.get("files")
    return {*(files if isinstance(files, dict) else ()), MANIFEST, *_BESIDE}


def _contents(target: Path) -> Iterator[str]:
    """Yield the relative path of every file and link in the folder and within, hidden ones too."""
    for current, folders, files in os.walk(target):
        place = Path(current)
        folders[:] = [name for name in folders if not _LITTER.fullmatch(name)]
        links = [name for name in folders if (place / name).is_symlink()]
        for name in (*links, *files):
            if not _LITTER.fullmatch(name):
                yield (place / name).relative_to(target).as_posix()

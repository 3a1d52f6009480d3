"""The bundle that a command writes to: the folder that was named, or a copy of it made for that.

What the hub's cache holds is never written to: it is shared by every program, and holds what was downloaded.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from fastspan.bundle.beside.evaluations import EVALUATIONS
from fastspan.bundle.folder import Bundle
from fastspan.bundle.hub.cache import hub_snapshot, in_hub_cache
from fastspan.bundle.manifest import MANIFEST
from fastspan.bundle.source import open_bundle
from fastspan.cli.commands import UsageError
from fastspan.errors import BundleError

__all__ = ["commit_of", "copied", "own_bundle"]


def own_bundle(source: str, revision: str | None, copy_to: Path | None) -> Bundle:
    """Open the bundle that a command is to change, or to copy first.

    Raises:
        UsageError: ``source`` is a hub id or a folder of the hub's cache, and ``copy_to`` does not say where
            to.
        InputError: ``revision`` is given with a folder.
        BundleError: The bundle cannot be used, or the copy's place is taken or in the hub's cache.
    """
    if copy_to is not None and os.path.lexists(copy_to):
        raise BundleError(f"{copy_to} is there already: give --copy-to the name of a new folder.")
    if copy_to is not None and in_hub_cache(copy_to):
        raise BundleError(f"{copy_to} is in the hub's cache: give --copy-to the name of a folder elsewhere.")
    if copy_to is None and source.count("/") == 1 and not os.path.lexists(source):
        raise UsageError(
            f"{source} is not a folder here. If it is a hub id, say with --copy-to FOLDER where a copy can "
            "be written to"
        )
    if copy_to is None and os.path.lexists(source) and in_hub_cache(Path(source)):
        raise UsageError(
            f"{source} is in the hub's cache, which holds nothing but what was downloaded: say with "
            "--copy-to FOLDER where a copy can be written to"
        )
    return open_bundle(source, revision)


def commit_of(source: str, bundle: Bundle) -> str | None:
    """Return the commit that a hub id was opened at, to open it again as it was; None of a folder."""
    snapshot = None if os.path.lexists(source) else hub_snapshot(bundle.folder)
    return None if snapshot is None else snapshot.commit


def copied(bundle: Bundle, folder: Path) -> Bundle:
    """Copy a bundle, every file checked, to a folder that appears only once it is whole.

    Raises:
        BundleError: A file is not what was exported, or the copy cannot be written.
    """
    bundle.verify_all()
    workshop = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        for path in (*bundle.manifest.files, MANIFEST, EVALUATIONS):
            # What every answer rests on was verified; card and scores may be missing.
            if not (bundle.folder / path).is_file():
                continue
            target = workshop / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.folder / path, target)
        workshop.rename(folder)
    except OSError as error:
        raise BundleError(f"The bundle cannot be copied to {folder} ({error.strerror}).") from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return Bundle.open(folder)

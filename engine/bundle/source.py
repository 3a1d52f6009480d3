"""Where a bundle comes from: a folder, or a repository on the hub."""

from __future__ import annotations

import glob
import os
from dataclasses import replace
from pathlib import Path

from fastspan.bundle.folder import Bundle, read_manifest
from fastspan.bundle.manifest import MANIFEST
from fastspan.errors import BundleError, InputError, MissingDependency
from fastspan.options import shown

__all__ = ["open_bundle"]


def open_bundle(source: str | os.PathLike[str], revision: str | None) -> Bundle:
    """Open a folder as it lies, or fetch a bundle from the hub into its cache and open that.

    Args:
        source: A folder, or a repository's id, ``owner/name``.
        revision: With an id: branch, tag or commit.

    Raises:
        InputError: ``source`` or ``revision`` is unusable.
        BundleError: There is no bundle, it is damaged, or the hub could not be reached.
        MissingDependency: ``source`` is a hub id and huggingface_hub is not installed.
    """
    if not isinstance(source, str | os.PathLike) or not isinstance(os.fspath(source), str):
        raise InputError(f"source must be a folder or a hub id, not {shown(source)}.")
    if "\0" in os.fspath(source):
        raise InputError(f"source must be a folder or a hub id, and {shown(source)} holds a NUL character.")
    if revision is not None and not isinstance(revision, str):
        raise InputError(f"revision must be a string or None, not {shown(revision)}.")
    folder = Path(source)
    try:
        here = folder.exists()
    except (OSError, ValueError) as error:
        raise InputError(
            f"source must be a folder or a hub id, and no path can be {shown(source)} ({error})."
        ) from error
    # A path object is never a hub id: a folder that vanished must not be sought on the network.
    if here or not isinstance(source, str) or not _looks_like_hub_id(source):
        if revision is not None:
            raise InputError("revision goes with a hub id; a local folder is taken as it is.")
        return _opened(folder)
    return _opened(_from_hub(source, revision))


def _from_hub(hub_id: str, revision: str | None) -> Path:
    """Fetch the files that a bundle's manifest lists; of a repository without a manifest, nothing."""
    try:
        from huggingface_hub import hf_hub_download, snapshot_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependency(
            f"{hub_id!r} is no folder here, and to load it from the hub huggingface_hub is "
            "missing: run pip install 'fastspan[hub]'."
        ) from error
    try:
        manifest = Path(hf_hub_download(hub_id, MANIFEST, revision=revision))
        listed = [glob.escape(path) for path in (MANIFEST, *read_manifest(manifest).files)]
        # By its commit: the branch may move between the two requests.
        return Path(snapshot_download(hub_id, revision=manifest.parent.name, allow_patterns=listed))
    except BundleError:
        raise
    except Exception as error:
        # The second is a kind of the first, and says only that the hub could not be asked.
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise BundleError(
                f"{hub_id!r} on the hub holds no {MANIFEST}, so it is no bundle; if it is a checkpoint, run "
                f"`fastspan export {hub_id} --out FOLDER` once and load that folder."
            ) from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BundleError(
            f"{hub_id!r} is no folder here and could not be had from the hub: {reason} (check the name, the "
            "revision and the connection; a private repository needs `hf auth login`)"
        ) from error


def _opened(folder: Path) -> Bundle:
    bundle = Bundle.open(folder, links_into=_blobs_of(folder))
    # Pickles and forked children load it again, maybe from another working directory.
    return replace(bundle, folder=folder.absolute())


def _blobs_of(folder: Path) -> Path | None:
    """Where the files of a hub cache's snapshot truly lie; None for any other folder.

    A snapshot is ``models--owner--name/snapshots/<commit>`` and holds links to ``models--owner--name/blobs``.
    """
    snapshots = folder.resolve().parent
    if snapshots.name == "snapshots" and snapshots.parent.name.startswith("models--"):
        return snapshots.parent / "blobs"
    return None


def _looks_like_hub_id(source: str) -> bool:
    owner, _, name = source.partition("/")
    return bool(owner and name) and "/" not in name and owner[0] not in ".~" and "\\" not in source

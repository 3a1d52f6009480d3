"""Where a bundle comes from: a folder, or a repository on the hub."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from fastspan.bundle.folder import Bundle
from fastspan.bundle.hub import HubRepository
from fastspan.bundle.hub_cache import hub_snapshot
from fastspan.bundle.manifest import MANIFEST
from fastspan.bundle.manifest_file import manifest_bytes
from fastspan.errors import BundleError, IncompatibleBundle, InputError
from fastspan.options import shown

__all__ = ["looks_like_hub_id", "open_bundle"]


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
    if here or not isinstance(source, str) or not looks_like_hub_id(source):
        if revision is not None:
            raise InputError("revision goes with a hub id; a local folder is taken as it is.")
        return _opened(folder)
    return _from_hub(source, revision)


def _from_hub(hub_id: str, revision: str | None) -> Bundle:
    """Fetch the manifest, and of what it lists whatever is read later; of another repository, nothing."""
    no_bundle = (
        f"{hub_id!r} on the hub holds no {MANIFEST}, so it is no bundle; if it is a checkpoint, run "
        f"`fastspan export {hub_id} --out FOLDER` once and load that folder."
    )
    repository = HubRepository(
        hub_id,
        revision,
        probe=MANIFEST,
        without_probe=no_bundle,
        kind=BundleError,
        extra="hub",
    )

    def fetch(path: str, again: bool) -> None:
        repository.fetch(path, again=again)

    file = repository.fetch(MANIFEST)
    # Its own place, not that of the link's target.
    folder = file.parent.absolute()
    try:
        return Bundle.fetched(folder, manifest_bytes(file), fetch)
    except IncompatibleBundle:
        raise
    except BundleError:
        # A damaged cache heals; what the hub itself holds is damaged still.
        return Bundle.fetched(folder, manifest_bytes(repository.fetch(MANIFEST, again=True)), fetch)


def _opened(folder: Path) -> Bundle:
    snapshot = hub_snapshot(folder)
    bundle = Bundle.open(folder, links_into=None if snapshot is None else snapshot.blobs)
    # Pickles and forked children load it again, maybe from another working directory.
    return replace(bundle, folder=folder.absolute())


def looks_like_hub_id(source: str) -> bool:
    """Whether a string that names no file here may be a repository's id, ``owner/name``."""
    owner, _, name = source.partition("/")
    return bool(owner and name) and "/" not in name and owner[0] not in ".~" and "\\" not in source

"""Where a bundle comes from: a folder, or a repository on the hub.

A repository that holds a checkpoint instead is exported once; see ``fastspan.bundle.hub.checkpoints``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from fastspan.bundle.folder import Bundle
from fastspan.bundle.hub.cache import COMMIT, hub_snapshot
from fastspan.bundle.hub.checkpoints import exported_before, exported_bundle
from fastspan.bundle.hub.repository import HubRepository, is_offline
from fastspan.bundle.manifest import MANIFEST
from fastspan.bundle.manifest_file import manifest_bytes
from fastspan.errors import BundleError, IncompatibleBundle, InputError
from fastspan.options import shown

__all__ = ["looks_like_hub_id", "open_bundle"]

_CONFIG = "config.json"


def open_bundle(source: str | os.PathLike[str], revision: str | None) -> Bundle:
    """Open a folder as it lies, or fetch a bundle from the hub into its cache and open that.

    Of a checkpoint on the hub, the bundle that it is exported to, once, in the user's cache.

    Args:
        source: A folder, or a repository's id, ``owner/name``.
        revision: With an id: branch, tag or commit.

    Raises:
        InputError: ``source`` or ``revision`` is unusable.
        BundleError: There is no bundle, it is damaged, or the hub could not be reached.
        CheckpointError: The repository holds a checkpoint that cannot be exported.
        ParityError: Not even its fp32 graph agrees with its reference.
        MissingDependency: ``source`` is a hub id and huggingface_hub, or what exports a checkpoint, is not
            installed.
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


class _HoldsNoManifestError(BundleError):
    """A repository is there, and is no bundle."""


def _from_hub(hub_id: str, revision: str | None) -> Bundle:
    """Open the bundle that a repository holds, or that its checkpoint was exported to."""
    if revision is not None and COMMIT.fullmatch(revision):
        # A commit that was exported holds a checkpoint, and always will: nobody need be asked.
        before = exported_before(hub_id, revision)
        if before is not None:
            return _opened(before)
    try:
        return _bundle_from_hub(hub_id, revision)
    except _HoldsNoManifestError:
        return _opened(exported_bundle(hub_id, _checkpoint(hub_id, revision).commit))
    except BundleError:
        # Offline nobody can say that there is no manifest; what was exported before says it.
        before = _exported_before(hub_id, revision)
        if before is None:
            raise
    return _opened(before)


def _bundle_from_hub(hub_id: str, revision: str | None) -> Bundle:
    """Fetch the manifest, and of what it lists whatever is read later; of another repository, nothing."""
    repository = HubRepository(
        hub_id,
        revision,
        probe=MANIFEST,
        without_probe=_HoldsNoManifestError(f"{hub_id!r} on the hub holds no {MANIFEST}."),
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


def _checkpoint(hub_id: str, revision: str | None) -> HubRepository:
    """Find the commit of a repository that holds a checkpoint, by its configuration, which is fetched."""
    repository = HubRepository(
        hub_id,
        revision,
        probe=_CONFIG,
        without_probe=BundleError(
            f"{hub_id!r} on the hub holds neither {MANIFEST} nor {_CONFIG}, so it is no bundle and no "
            "checkpoint: check the id and the revision."
        ),
        kind=BundleError,
        extra="hub",
    )
    repository.fetch(_CONFIG)
    return repository


def _exported_before(hub_id: str, revision: str | None) -> Path | None:
    """What a branch's checkpoint was exported to, where the cache alone may be asked what the branch is."""
    if not is_offline():
        return None
    try:
        return exported_before(hub_id, _checkpoint(hub_id, revision).commit)
    except BundleError:
        return None


def _opened(folder: Path) -> Bundle:
    snapshot = hub_snapshot(folder)
    bundle = Bundle.open(folder, links_into=None if snapshot is None else snapshot.blobs)
    # Pickles and forked children load it again, maybe from another working directory.
    return replace(bundle, folder=folder.absolute())


def looks_like_hub_id(source: str) -> bool:
    """Whether a string that names no file here may be a repository's id, ``owner/name``."""
    owner, _, name = source.partition("/")
    return bool(owner and name) and "/" not in name and owner[0] not in ".~" and "\\" not in source

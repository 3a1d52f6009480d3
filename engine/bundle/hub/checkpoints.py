"""A hub id of a checkpoint instead of a bundle: exported once, into the user's cache, by its commit.

Exporting is a floor above this one. So it is called by the name of its module, here and nowhere else, and
only when a repository is found to hold a checkpoint: who loads bundles never imports it. What was exported
before is found without it.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from fastspan.bundle.folder import Bundle
from fastspan.bundle.strict_json import named
from fastspan.errors import BundleError, MissingDependency
from fastspan.machine.user_cache import user_cache
from fastspan.version import __version__

__all__ = ["exported_before", "exported_bundle"]

_EXPORTER = "fastspan.export.on_demand"


def exported_before(hub_id: str, commit: str) -> Path | None:
    """Return the folder of the bundle that a checkpoint's commit was exported to; None: it was not.

    Args:
        hub_id: The repository's id.
        commit: 40 hexadecimal digits.
    """
    try:
        folder = _place(hub_id, commit)
        Bundle.open(folder)
    except (BundleError, RuntimeError):
        return None
    return folder


def exported_bundle(hub_id: str, commit: str) -> Path:
    """Return the folder of a checkpoint's bundle, exporting it where that was not done before.

    Args:
        hub_id: The repository's id.
        commit: 40 hexadecimal digits.

    Raises:
        CheckpointError: It is no checkpoint that can be exported.
        BundleError: The user's cache cannot be written to.
        MissingDependency: What exports is not installed.
    """
    if (before := exported_before(hub_id, commit)) is not None:
        return before
    try:
        folder = _place(hub_id, commit)
    except RuntimeError as error:
        raise BundleError(
            f"There is no home folder to keep the bundle of {named(hub_id)} in: set XDG_CACHE_HOME, or run "
            f"`fastspan export {named(hub_id)} --out FOLDER` and load that folder."
        ) from error
    name = named(hub_id)
    try:
        exporter = import_module(_EXPORTER)
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{name} holds a checkpoint and no bundle, and to export it {error.name} is missing: run "
            f"pip install 'fastspan[export]', or `fastspan export {name} --out FOLDER` where that is "
            "installed, and load that folder."
        ) from error
    exporter.export_once(hub_id, folder, revision=commit)
    return folder


def _place(hub_id: str, commit: str) -> Path:
    # Another version may export other graphs of the same checkpoint.
    return user_cache() / "bundles" / hub_id.replace("/", "--") / f"{commit}-{__version__}"

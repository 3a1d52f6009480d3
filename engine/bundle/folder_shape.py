"""What may lie in a bundle's folder, and what a folder is that is no bundle."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fastspan.bundle.manifest import MANIFEST
from fastspan.errors import BundleError

__all__ = ["Inside", "files_within", "refuse_other_folders", "refuse_pickled"]

_PICKLED = frozenset({".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"})
_AGAIN = "copy the bundle again or export it again."


def files_within(folder: Path) -> Iterator[str]:
    """Yield the relative path, with ``/``, of every file in a bundle's folder and the folders within.

    Files and folders whose names begin with a dot are left out, on every level: hubs and file managers add
    them.

    Raises:
        BundleError: A folder within is a link.
    """
    pending = [(entry, entry.name) for entry in folder.iterdir() if not entry.name.startswith(".")]
    while pending:
        entry, path = pending.pop()
        if not entry.is_dir():
            yield path
        elif entry.is_symlink():
            raise BundleError(f"{entry} is a link to a folder, which no bundle holds: {_AGAIN}")
        else:
            pending.extend(
                (child, f"{path}/{child.name}") for child in entry.iterdir() if not child.name.startswith(".")
            )


class Inside:
    """Where a bundle's files may truly lie, once links are followed."""

    def __init__(self, folder: Path, links_into: Path | None) -> None:
        self._folder = folder
        self._roots = [Path(os.path.realpath(root)) for root in (folder, links_into) if root is not None]

    def refuse_unsafe(self, path: str) -> int:
        """Return the size of the regular file at ``path``; refuse anything else there."""
        try:
            place = (self._folder / path).resolve(strict=True)
            status = place.stat()
        except (OSError, RuntimeError) as error:
            raise BundleError(f"{self._folder / path} leads nowhere ({error}): {_AGAIN}") from error
        if not any(place.is_relative_to(root) for root in self._roots):
            raise BundleError(
                f"{self._folder / path} is a link that leads out of the bundle, to {place}: copy the bundle "
                "with its links followed, or export it again."
            )
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{self._folder / path} is not a regular file: {_AGAIN}")
        return status.st_size


def refuse_pickled(path: str) -> None:
    """Refuse a file whose name says that reading it may run code.

    Raises:
        BundleError: It does.
    """
    if PurePosixPath(path.lower()).suffix in _PICKLED:
        raise BundleError(
            f"{path} is a pickled or NumPy file, which can run code when it is read; no bundle holds one: "
            "remove it, or export the checkpoint again."
        )


def refuse_other_folders(folder: Path) -> None:
    """Refuse what is no bundle, and say what it is instead.

    Raises:
        BundleError: There is no folder, or it holds no manifest.
        OSError: It cannot be read.
    """
    if not folder.exists():
        raise BundleError(f"{folder} does not exist: give the folder that `fastspan export` wrote.")
    if not folder.is_dir():
        raise BundleError(f"{folder} is a file: a bundle is a folder, the one that `fastspan export` wrote.")
    if os.path.lexists(folder / MANIFEST):
        return
    weights = ("*.safetensors", "pytorch_model*.bin", "flax_model*.msgpack")
    if (folder / "config.json").exists() and any(next(folder.glob(kind), None) for kind in weights):
        raise BundleError(
            f"{folder} is a checkpoint, not a bundle: run `fastspan export {folder} --out FOLDER` once and "
            "load that folder."
        )
    raise BundleError(
        f"{folder} holds no {MANIFEST}, so it is no bundle: give the folder that `fastspan export` wrote."
    )

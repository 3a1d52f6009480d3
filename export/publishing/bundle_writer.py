"""Write a bundle so that its folder is, at every moment, absent or whole.

A bundle is made in a workshop beside its destination and moved into place in one step. Killed at any
point, a writer leaves the destination as it was or as it should be; what it leaves of its workshop, the next
one clears. Of several writers at once, the last to commit wins.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from fastspan.bundle.beside.evaluations import EVALUATIONS
from fastspan.bundle.beside.file_lock import FileLock
from fastspan.bundle.folder import Bundle, sha256_of
from fastspan.bundle.folder_shape import files_within
from fastspan.bundle.hub.cache import in_hub_cache
from fastspan.bundle.manifest import FORMAT, MANIFEST, FileRecord, Manifest
from fastspan.bundle.whole_files import write_whole
from fastspan.errors import BundleError
from fastspan.export.publishing.carried_calibration import carry_over
from fastspan.export.publishing.destination import refuse_destination
from fastspan.export.publishing.placing import Move, move_into_place
from fastspan.export.publishing.termination import ended_by_sigterm

__all__ = ["Draft", "move_into_place", "sync_tree", "update_manifest", "write_bundle"]

_LOCK_WAIT_S = 60.0
_DRAFT, _PREVIOUS, _LOCK = "bundle", "previous", "lock"


@dataclass(slots=True)
class Draft:
    """A bundle in the making; ``write_bundle`` yields one.

    Attributes:
        folder: Where its files are to be written, all but ``fastspan.json``.
        calibration: Once committed, a sentence that says what became of the former bundle's calibration;
            empty where it had none.
    """

    folder: Path
    _target: Path
    _move: Move
    _lock_wait: float
    calibration: str = field(default="", init=False)
    _committed: bool = field(default=False, init=False)

    def commit(self, manifest: Manifest, *, check: Callable[[Path], None] | None = None) -> Bundle:
        """Write the manifest, bring everything to disk and move the bundle into place. To be called once.

        Args:
            manifest: What the bundle says about itself; its ``files`` and its variants' ``bytes`` are
                measured and filled in here.
            check: Called with the whole bundle's folder before it is moved; what it raises ends the commit.

        Returns:
            The bundle at its destination.

        Raises:
            BundleError: The folder and the manifest do not make a bundle, the destination was taken
                meanwhile, or the file system refuses.
        """
        with _reporting(self._target):
            carried, self.calibration = carry_over(manifest, self._target)
            whole = _measured(carried, self.folder)
            with (self.folder / MANIFEST).open("xb") as file:
                file.write(whole.to_json())
            draft = Bundle.open(self.folder)
            sync_tree(self.folder)
            if check is not None:
                check(self.folder)
            with _lock_beside(self._target, self._lock_wait):
                refuse_destination(self._target)
                self._move(self.folder, self._target)
                _sync(self._target.parent)
        self._committed = True
        return replace(draft, folder=self._target)


@contextlib.contextmanager
def write_bundle(
    destination: str | os.PathLike[str], *, move: Move = move_into_place, lock_wait: float = _LOCK_WAIT_S
) -> Iterator[Draft]:
    """Write a bundle: fill the draft's folder, then call its ``commit`` within the ``with`` block.

    Leaving the block by an exception, or by SIGTERM where the program leaves that to the system, leaves the
    destination as it was, and nothing beside it.

    Args:
        destination: Where the bundle is to lie; parent folders are made. A bundle that lies there is
            replaced.
        move: Moves the finished folder there, under the lock of all writers of this destination.
        lock_wait: Seconds to wait for a writer that holds that lock.

    Yields:
        The draft, with an empty folder on the destination's file system.

    Raises:
        BundleError: The destination holds anything that no export wrote, lies in a hub cache or cannot be
            written to, or the disk is full.
        RuntimeError: The block ended without a ``commit``.
    """
    target = _own_place(destination)
    with _reporting(target):
        if not target.name or not target.is_dir():
            refuse_destination(target)
        # What lies in a folder is read under the lock alone: another writer may be replacing it.
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock_beside(target, lock_wait):
            _clear_stale(target)
            refuse_destination(target)
            workshop, lock = _open_workshop(target)
    try:
        draft = Draft(workshop / _DRAFT, target, move, lock_wait)
        with ended_by_sigterm(), _telling_of_a_full_disk(target):
            yield draft
        if not draft._committed:
            raise RuntimeError("the block of write_bundle ended without a call of commit")
    finally:
        lock.release()
        # What cannot be removed now, because someone still reads it, is cleared by the next writer.
        shutil.rmtree(workshop, ignore_errors=True)


def update_manifest(folder: str | os.PathLike[str], manifest: Manifest) -> None:
    """Replace a bundle's ``fastspan.json`` in one step, leaving its other files alone.

    What an older minor format said, this one says too; so an older bundle's manifest gets this one's number.

    Args:
        folder: The bundle's folder.
        manifest: The manifest that was read from it, with other values but the same ``files``.

    Raises:
        BundleError: The folder is no bundle or lies in a hub cache, its files are not those of
            ``manifest``, a newer FastSpan wrote it, or the file system refuses.
    """
    target = _own_place(folder)
    if _minor(manifest.format) > _minor(FORMAT):
        raise BundleError(
            f"{target} has format {manifest.format}, and rewriting it in format {FORMAT} would lose what the "
            "other format adds: use the FastSpan that wrote it, or export the checkpoint again."
        )
    with _reporting(target), _lock_beside(target):
        if Bundle.open(target).manifest.files != manifest.files:
            raise BundleError(
                f"{target} was exported again since its manifest was read: open it again and repeat."
            )
        for left in target.glob(f".{MANIFEST}[.-]*"):
            left.unlink()
        data = replace(manifest, format=FORMAT).to_json()
        Manifest.from_json(data)
        write_whole(target / MANIFEST, data)
        _sync(target)


def _own_place(path: str | os.PathLike[str]) -> Path:
    """Return where a path leads; what the hub's cache holds is never written to."""
    target = Path(os.path.realpath(path))
    if in_hub_cache(target):
        raise BundleError(
            f"{target} is in a hub cache, which holds nothing but what was downloaded: write to a folder "
            "elsewhere, or copy the bundle there first."
        )
    return target


def _minor(version: str) -> int:
    """The minor number of a format; a manifest that was read has this version's major one."""
    return int(version.partition(".")[2])


@contextlib.contextmanager
def _reporting(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BundleError(
            f"The bundle at {target} could not be written ({error}): make room or mend the permissions "
            "there, or export to another place."
        ) from error


@contextlib.contextmanager
def _telling_of_a_full_disk(target: Path) -> Iterator[None]:
    """Say where room is lacking; what else the writer of a draft meets is its own to explain."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        # The system names no file that was open already.
        file = error.filename or f"a file of {target}"
        free = shutil.disk_usage(target.parent).free
        raise BundleError(
            f"{file} could not be written ({error.strerror}; {free / 1e6:.0f} MB are free in "
            f"{target.parent}): make room there, or export to a disk that has it. Nothing was changed."
        ) from error


def _lock_beside(target: Path, wait: float = _LOCK_WAIT_S) -> FileLock:
    lock = FileLock.take(target.with_name(f".{target.name}.lock"), wait=wait)
    if lock is None:
        raise BundleError(
            f"Another process has been moving a bundle to {target} for {wait:.0f} s: wait for it, or end it."
        )
    return lock


def _open_workshop(target: Path) -> tuple[Path, FileLock]:
    """Make the folder in which a draft is made, locked for as long as its writer lives."""
    workshop = target.with_name(f".{target.name}.export-{os.getpid()}-{secrets.token_hex(4)}")
    (workshop / _DRAFT).mkdir(parents=True)
    lock = FileLock.take(workshop / _LOCK)
    if lock is None:
        raise BundleError(
            f"{workshop / _LOCK} is locked though it is new: the file system's locks do not work."
        )
    return workshop, lock


def _clear_stale(target: Path) -> None:
    """Remove the workshops of writers that died. The lock beside the target has to be held."""
    name = re.compile(rf"\.{re.escape(target.name)}\.export-\d+-[0-9a-f]{{8}}")
    for workshop in [entry for entry in target.parent.iterdir() if name.fullmatch(entry.name)]:
        # The process id in the name is for people: another process or container may have it again. The lock
        # is had only when the writer is gone. What another user left behind must not stop this writer.
        with contextlib.suppress(OSError):
            lock = FileLock.take(workshop / _LOCK)
            if lock is None:
                continue
            with lock:
                if (workshop / _PREVIOUS).exists() and not target.exists():
                    (workshop / _PREVIOUS).rename(target)
            shutil.rmtree(workshop)


def _measured(manifest: Manifest, folder: Path) -> Manifest:
    files = {
        path: FileRecord(sha256=sha256_of(folder / path), bytes=(folder / path).stat().st_size)
        # Scores are no part of what a bundle promises: another evaluation may replace them.
        for path in sorted(set(files_within(folder)) - {EVALUATIONS})
    }
    variants = {
        name: replace(variant, bytes=sum(files[path].bytes for path in variant.files if path in files))
        for name, variant in manifest.variants.items()
    }
    return replace(manifest, files=files, variants=variants)


def sync_tree(folder: Path) -> None:
    """Bring all files and folders within a folder to disk."""
    for current, _, files in os.walk(folder, topdown=False):
        for name in files:
            _sync(Path(current, name))
        _sync(Path(current))


def _sync(path: Path) -> None:
    """Bring a file's content, or a folder's entries, to disk."""
    if sys.platform == "win32":
        if path.is_dir():
            return
        descriptor = os.open(path, os.O_RDWR)
    else:
        descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

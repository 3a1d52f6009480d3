"""An exported model folder: opened only if it is whole, and read only after its checksums."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fastspan.bundle.manifest import MANIFEST, FileRecord, Manifest
from fastspan.bundle.variants import Graph
from fastspan.errors import BundleError, ChecksumMismatch

__all__ = ["Bundle", "files_within", "read_manifest", "sha256_of"]

_CHUNK = 1 << 20
_PICKLED = frozenset({".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"})
_LARGEST_MANIFEST = 16 << 20
_AGAIN = "copy the bundle again or export it again."


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose manifest was read and whose folder has the shape the manifest lists.

    ``open`` makes one. What the files hold is checked by ``verified``, before they are read.

    Attributes:
        folder: Where it lies.
        manifest: What it says about itself.
    """

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, links_into: Path | None = None) -> Bundle:
        """Open a bundle: read its manifest and check the folder's shape, without reading the other files.

        Files and folders whose names begin with a dot are passed over.

        Args:
            folder: The bundle's folder.
            links_into: A folder outside the bundle that links may lead to as well, such as the one in which a
                hub cache keeps the contents of all its files.

        Raises:
            IncompatibleBundle: The manifest's format is not one this version reads.
            ChecksumMismatch: The manifest was changed, or a file has another size than was exported.
            BundleError: The folder is no bundle, a file is missing, surplus, pickled or not a regular file,
                or a link leads out of the bundle.
        """
        folder = Path(folder)
        try:
            _refuse_other_folders(folder)
            inside = _Inside(folder, links_into)
            inside.refuse_unsafe(MANIFEST)
            bundle = cls(folder, read_manifest(folder / MANIFEST))
            bundle._check_shape(inside)
        except OSError as error:
            raise BundleError(f"{folder} cannot be read ({error}): {_AGAIN}") from error
        return bundle

    def files_for(self, graph: Graph) -> tuple[str, ...]:
        """Return the paths that loading ``graph`` reads: the graph, its data, configuration and tokenizer."""
        beside = (path for path in self.manifest.files if path.endswith(".json") and "/" not in path)
        return (*beside, graph.file, *graph.data)

    def verified(self, paths: Iterable[str]) -> None:
        """Check that these files are byte for byte what was exported. To be called before they are read.

        Args:
            paths: Paths as the manifest lists them.

        Raises:
            ChecksumMismatch: A file's SHA-256 is not the manifest's.
            BundleError: A path is not in the manifest, or its file cannot be read.
        """
        for path in paths:
            record = self.manifest.files.get(path)
            if record is None:
                raise BundleError(
                    f"{path} is not listed in {self.folder / MANIFEST}: export the checkpoint again."
                )
            try:
                found = sha256_of(self.folder / path)
            except OSError as error:
                raise BundleError(f"{self.folder / path} cannot be read ({error}): {_AGAIN}") from error
            if found != record.sha256:
                raise ChecksumMismatch(
                    f"{path} is not the file that was exported (sha256 {found}, expected {record.sha256}) "
                    f"in {self.folder}: {_AGAIN}"
                )

    def verify_all(self) -> None:
        """Check every file of the bundle; see ``verified``."""
        self.verified(self.manifest.files)

    def _check_shape(self, inside: _Inside) -> None:
        found = set(files_within(self.folder))
        for path in sorted(found):
            _refuse_pickled(path)
        for path, record in self.manifest.files.items():
            if path not in found:
                raise BundleError(f"{self.folder} lacks {path}, which its manifest lists: {_AGAIN}")
            self._check_size(path, record, inside.refuse_unsafe(path))
        surplus = sorted(found - self.manifest.files.keys() - {MANIFEST})
        if surplus:
            more = f" and {len(surplus) - 1} more files" if len(surplus) > 1 else ""
            raise BundleError(
                f"{self.folder} holds {surplus[0]}{more}, which its manifest does not list: remove what "
                f"does not belong there, or {_AGAIN}"
            )

    def _check_size(self, path: str, record: FileRecord, size: int) -> None:
        if size == record.bytes:
            return
        with (self.folder / path).open("rb") as file:
            if file.read(40).startswith(b"version https://git-lfs.github.com/"):
                raise ChecksumMismatch(
                    f"{path} in {self.folder} is a Git LFS pointer, not the file itself: run `git lfs pull`."
                )
        raise ChecksumMismatch(
            f"{path} is not the file that was exported ({size} bytes, expected {record.bytes}) "
            f"in {self.folder}: {_AGAIN}"
        )


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


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits; other threads run meanwhile.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    chunk = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(chunk):
            digest.update(chunk[:count])
    return digest.hexdigest()


def read_manifest(path: Path) -> Manifest:
    """Read a manifest's file.

    Raises:
        IncompatibleBundle: Its format is not one this version reads.
        ChecksumMismatch: It was changed.
        BundleError: It is no manifest.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(_LARGEST_MANIFEST + 1)
    if len(data) > _LARGEST_MANIFEST:
        raise BundleError(f"{path} is larger than any manifest ({_LARGEST_MANIFEST} bytes): {_AGAIN}")
    return Manifest.from_json(data)


class _Inside:
    """Where a bundle's files may truly lie, once links are followed."""

    def __init__(self, folder: Path, links_into: Path | None) -> None:
        self._folder = folder
        self._roots = [root.resolve() for root in (folder, links_into) if root is not None]

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


def _refuse_pickled(path: str) -> None:
    if PurePosixPath(path.lower()).suffix in _PICKLED:
        raise BundleError(
            f"{path} is a pickled or NumPy file, which can run code when it is read; no bundle holds one: "
            "remove it, or export the checkpoint again."
        )


def _refuse_other_folders(folder: Path) -> None:
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

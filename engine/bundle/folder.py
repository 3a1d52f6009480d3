"""An exported model folder: opened only if it is whole, and read only after its checksums."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from fastspan.bundle.folder_shape import Inside, files_within, refuse_other_folders, refuse_pickled
from fastspan.bundle.manifest import MANIFEST, FileRecord, Manifest
from fastspan.bundle.manifest_file import AGAIN, manifest_bytes
from fastspan.bundle.onnx_files import check_graph
from fastspan.bundle.variants import Graph
from fastspan.bundle.whole_files import open_regular, sha256_of
from fastspan.errors import BundleError, ChecksumMismatch

__all__ = ["Bundle", "GraphBytes", "sha256_of"]

Fetch = Callable[[str, bool], None]
"""Brings the file of a path, into the folder; with True, anew, because what lies there is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBytes:
    """A graph as ONNX Runtime takes it, verified.

    Attributes:
        model: Content of the ONNX file.
        data: Name of a file of weights, as the graph names it, relative to the graph → its content.
    """

    model: bytes
    data: Mapping[str, bytes]

    @classmethod
    def of(cls, graph: Graph, contents: Mapping[str, bytes]) -> GraphBytes:
        """Take a graph out of what was read of its bundle.

        Args:
            graph: The graph.
            contents: Path → verified content, of its file and its data.

        Raises:
            BundleError: The graph is not what the manifest says, or reads a file that is not its data.
        """
        model = contents[graph.file]
        named = check_graph(model, graph)
        return cls(model=model, data={name: contents[path] for name, path in named.items()})


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose manifest was read and whose folder has the shape the manifest promises.

    ``open`` makes one. What the files hold is checked by ``read`` as they are read, or by ``verified``.
    The promise is about what loading reads. A model card, licences and other files are not part of it.

    Attributes:
        folder: Where it lies.
        manifest: What it says about itself.
        digest: SHA-256 of the manifest's file, 64 hexadecimal digits.
    """

    folder: Path
    manifest: Manifest
    digest: str = field(compare=False)
    _fetch: Fetch | None = field(default=None, compare=False, repr=False)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, links_into: Path | None = None) -> Bundle:
        """Open a bundle: read its manifest and check the folder's shape, without reading the other files.

        Files and folders whose names begin with a dot are passed over; so is what the manifest does not
        promise, unless it is pickled.

        Args:
            folder: The bundle's folder.
            links_into: A folder outside the bundle that links may lead to as well: the one in which a hub
                cache keeps the contents of all its files. A hub cache may lack the files of variants that
                were never asked for.

        Raises:
            IncompatibleBundle: The manifest's format is not one this version reads.
            ChecksumMismatch: The manifest was changed, or a file has another size than was exported.
            BundleError: The folder is no bundle, a file is missing, pickled or not a regular file, or a link
                leads out of the bundle.
        """
        folder = Path(folder)
        try:
            refuse_other_folders(folder)
            inside = Inside(folder, links_into)
            inside.refuse_unsafe(MANIFEST)
            data = manifest_bytes(folder / MANIFEST)
            bundle = cls(folder, Manifest.from_json(data), sha256(data).hexdigest())
            bundle._check_shape(inside, partial=links_into is not None)
        except OSError as error:
            raise BundleError(f"{folder} cannot be read ({error}): {AGAIN}") from error
        return bundle

    @classmethod
    def fetched(cls, folder: Path, manifest: bytes, fetch: Fetch) -> Bundle:
        """Make a bundle whose files are brought, one by one, when they are first read.

        Args:
            folder: Where the files will lie.
            manifest: The bytes of its manifest.
            fetch: Brings a file.

        Raises:
            BundleError: It is no manifest that this version reads.
        """
        bundle = cls(folder, Manifest.from_json(manifest), sha256(manifest).hexdigest(), fetch)
        for path in bundle.manifest.files:
            refuse_pickled(path)
        return bundle

    @property
    def promised(self) -> tuple[str, ...]:
        """Paths of the files that loading may read: configuration, tokenizer, and every variant's graphs."""
        graphs = (path for variant in self.manifest.variants.values() for path in variant.files)
        return tuple(dict.fromkeys((*self.files_beside, *graphs)))

    def files_for(self, graph: Graph) -> tuple[str, ...]:
        """Return the paths that loading ``graph`` reads: the graph, its data, configuration and tokenizer."""
        return (*self.files_beside, graph.file, *graph.data)

    @property
    def files_beside(self) -> tuple[str, ...]:
        """Paths of configuration and tokenizer, which every variant shares."""
        return tuple(path for path in self.manifest.files if path.endswith(".json") and "/" not in path)

    def read(self, *paths: str) -> dict[str, bytes]:
        """Read files whole, and check that they are byte for byte what was exported.

        All are opened before the first is read, so that a folder which is replaced meanwhile is read to its
        end. What is returned was verified, whatever happens to the folder after that.

        Args:
            *paths: Paths as the manifest lists them.

        Returns:
            Path → content.

        Raises:
            ChecksumMismatch: A file's size or SHA-256 is not the manifest's.
            BundleError: A path is not in the manifest, its file cannot be read or is not a regular file, or
                it could not be fetched from where the bundle comes from.
        """
        if self._fetch is not None:
            for path in paths:
                self._record(path)
                self._fetch(path, False)
        with ExitStack() as opened:
            files = {path: opened.enter_context(self._opened(path)) for path in paths}
            found = {}
            for path, file in files.items():
                try:
                    found[path] = self._content(path, file)
                except ChecksumMismatch:
                    if self._fetch is None:
                        raise
                    self._fetch(path, True)
                    with self._opened(path) as mended:
                        found[path] = self._content(path, mended)
        return found

    def read_graph(self, graph: Graph) -> GraphBytes:
        """Read a graph and its weights, and check that it reads no other file.

        Raises:
            ChecksumMismatch: A file is not what was exported.
            BundleError: A file cannot be read, or the graph is not what the manifest says.
        """
        return GraphBytes.of(graph, self.read(graph.file, *graph.data))

    def verified(self, paths: Iterable[str]) -> None:
        """Check that these files are byte for byte what was exported, one after the other.

        Args:
            paths: Paths as the manifest lists them.

        Raises:
            ChecksumMismatch: A file's SHA-256 is not the manifest's.
            BundleError: A path is not in the manifest, or its file cannot be read.
        """
        for path in paths:
            record = self._record(path)
            if self._fetch is not None:
                self._fetch(path, False)
            digest = self._digest(path)
            if digest != record.sha256 and self._fetch is not None:
                self._fetch(path, True)
                digest = self._digest(path)
            if digest != record.sha256:
                raise self._mismatch(path, f"sha256 {digest}, expected {record.sha256}")

    def verify_all(self) -> None:
        """Check every file that loading may read; see ``verified``."""
        self.verified(self.promised)

    def _record(self, path: str) -> FileRecord:
        record = self.manifest.files.get(path)
        if record is None:
            raise BundleError(
                f"{path} is not listed in {self.folder / MANIFEST}: export the checkpoint again."
            )
        return record

    def _digest(self, path: str) -> str:
        try:
            return sha256_of(self.folder / path)
        except OSError as error:
            raise BundleError(f"{self.folder / path} cannot be read ({error}): {AGAIN}") from error

    def _opened(self, path: str) -> BinaryIO:
        self._record(path)
        try:
            return open_regular(self.folder / path)
        except FileNotFoundError as error:
            raise BundleError(
                f"{self.folder} lacks {path}, which its manifest lists: load the bundle by its hub id to "
                f"fetch it, or {AGAIN}"
            ) from error
        except OSError as error:
            raise BundleError(f"{self.folder / path} cannot be read ({error}): {AGAIN}") from error

    def _content(self, path: str, file: BinaryIO) -> bytes:
        record = self._record(path)
        try:
            # No more than was promised is ever read, however large the file has grown.
            self._check_size(path, os.fstat(file.fileno()).st_size, file)
            data = file.read(record.bytes)
        except OSError as error:
            raise BundleError(f"{self.folder / path} cannot be read ({error}): {AGAIN}") from error
        digest = sha256(data).hexdigest()
        if digest != record.sha256:
            raise self._mismatch(path, f"sha256 {digest}, expected {record.sha256}")
        return data

    def _check_shape(self, inside: Inside, *, partial: bool) -> None:
        found = set(files_within(self.folder))
        for path in sorted(found.union(self.manifest.files)):
            refuse_pickled(path)
        for path in self.promised:
            if path in found:
                size = inside.refuse_unsafe(path)
                if size != self.manifest.files[path].bytes:
                    with (self.folder / path).open("rb") as file:
                        self._check_size(path, size, file)
            elif not partial:
                raise BundleError(f"{self.folder} lacks {path}, which its manifest lists: {AGAIN}")

    def _check_size(self, path: str, size: int, file: BinaryIO) -> None:
        record = self._record(path)
        if size == record.bytes:
            return
        if file.read(40).startswith(b"version https://git-lfs.github.com/"):
            raise ChecksumMismatch(
                f"{path} in {self.folder} is a Git LFS pointer, not the file itself: run `git lfs pull`."
            )
        raise self._mismatch(path, f"{size} bytes, expected {record.bytes}")

    def _mismatch(self, path: str, difference: str) -> ChecksumMismatch:
        return ChecksumMismatch(
            f"{path} is not the file that was exported ({difference}) in {self.folder}: {AGAIN}"
        )

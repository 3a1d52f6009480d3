"""A checkpoint folder as the only place its files may come from.

What lies in it was written by someone else: an index may name ``../../secrets``, a link may lead
anywhere, and a clone without Git LFS leaves pointers where the weights should be. Every file of a
checkpoint is opened through ``CheckpointFolder.file``, which refuses these.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastspan.bundle.whole_files import sha256_of
from fastspan.errors import CheckpointError
from fastspan.options import shown

__all__ = ["CheckpointFolder"]

# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: a pointer is shorter than 1024 bytes.
_LFS_POINTER = b"version https://git-lfs"
_LFS_POINTER_MOST = 1024


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """A folder of checkpoint files; make one with ``CheckpointFolder.open``.

    Attributes:
        path: The folder.
        root: Links within the folder may lead to files under this folder, and nowhere else. It is
            the folder itself, or the repository's folder in the hub cache, whose snapshots are
            links into a folder of blobs beside them.
    """

    path: Path
    root: Path

    @classmethod
    def open(cls, path: str | Path, root: str | Path | None = None) -> CheckpointFolder:
        """Return the folder at ``path``, whose links may lead as far as ``root``.

        Args:
            path: The folder that holds ``config.json`` and the weights.
            root: See the class; None: the folder itself.

        Raises:
            CheckpointError: There is no folder at ``path``.
        """
        folder = Path(path)
        if not folder.is_dir():
            kind = "is a file" if folder.exists() else "does not exist"
            raise CheckpointError(
                f"{folder} {kind}: give the folder that holds the checkpoint's config.json and weights."
            )
        return cls(folder, Path(os.path.realpath(root if root is not None else folder)))

    def has(self, name: str) -> bool:
        """Whether the folder lists ``name``, be it a usable file or not."""
        path = self.path / name
        return path.exists() or path.is_symlink()

    def file(self, name: str) -> Path:
        """Return the real path of the file ``name``, once it is sure that it may be read.

        Args:
            name: A plain file name; checkpoints have no subfolders.

        Raises:
            CheckpointError: The name points outside the folder, the file is missing or a link that
                leads out, or a Git LFS pointer stands in its place.
        """
        path = self.path / name
        # The backslash and the colon are a separator and a drive's mark on Windows alone, but a
        # checkpoint that is refused on one system should be refused on every one.
        if name in ("", ".", "..") or not set("/\\:\0").isdisjoint(name):
            raise CheckpointError(
                f"{self.path} refers to a file outside of it, {shown(name)}: a checkpoint lies in one folder."
            )
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            fault = "is a link that leads nowhere" if path.is_symlink() else "is missing"
            raise CheckpointError(f"{path} {fault}: copy or download the checkpoint again.") from error
        if not real.is_relative_to(self.root):
            raise CheckpointError(
                f"{path} is a link that leads out of the checkpoint, to {real}: put the file itself there."
            )
        if not real.is_file():
            raise CheckpointError(f"{path} is not a file: copy or download the checkpoint again.")
        if real.stat().st_size <= _LFS_POINTER_MOST and real.read_bytes().startswith(_LFS_POINTER):
            raise CheckpointError(
                f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull` there."
            )
        return real

    def json(self, name: str) -> dict[str, Any]:
        """Return the JSON object that the file ``name`` holds.

        Raises:
            CheckpointError: The file cannot be read (see ``file``) or holds no JSON object.
        """
        real = self.file(name)
        try:
            data = real.read_bytes()
            # json.loads itself lets halves of surrogate pairs pass, which no file can be written with.
            document = json.loads(data.decode(json.detect_encoding(data)))
        except OSError as error:
            raise CheckpointError(
                f"{self.path / name} cannot be read ({error.strerror or error}): copy or download the "
                "checkpoint again."
            ) from error
        except (ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{self.path / name} is not JSON ({error}): copy or download the checkpoint again."
            ) from error
        if not isinstance(document, dict):
            raise CheckpointError(
                f"{self.path / name} holds a JSON {type(document).__name__} where an object is expected: "
                "copy or download the checkpoint again."
            )
        return document

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of the file ``name`` in hexadecimal; the file is read block by block.

        Raises:
            CheckpointError: The file cannot be read (see ``file``).
        """
        return sha256_of(self.file(name))

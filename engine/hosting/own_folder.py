"""The folder that a package is written to: absent or whole at every moment, and never somebody else's.

``fastspan-package.json`` says which files a package put there, and what they held. A folder without it, one
with other files, or one in which somebody changed a file, is left alone.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fastspan.bundle.folder import sha256_of
from fastspan.errors import BundleError, InputError
from fastspan.export.publishing.bundle_writer import move_into_place, sync_tree
from fastspan.export.publishing.termination import ended_by_sigterm

__all__ = ["MARKER", "files_of", "whole_folder"]

MARKER = "fastspan-package.json"
"""The file by which a package is known."""

_ELSEWHERE = "choose another folder, or move it away."


@contextmanager
def whole_folder(out: str | os.PathLike[str], facts: Mapping[str, object]) -> Iterator[Path]:
    """Write a package: fill the folder that is yielded; it moves to its place at the end of the block.

    An exception, or SIGTERM, leaves the place as it was and nothing beside it.

    Args:
        out: Where the package is to lie; parent folders are made. A package that lies there is replaced.
        facts: What the marker says beside the files.

    Yields:
        An empty folder on the file system of ``out``.

    Raises:
        InputError: The place holds anything that no package put there.
        BundleError: It cannot be written to.
    """
    target = Path(out).resolve()
    workshop = target.with_name(f".{target.name}.package-{secrets.token_hex(4)}")
    draft = workshop / "package"
    try:
        with ended_by_sigterm():
            _refuse(target)
            draft.mkdir(parents=True)
            yield draft
            files = {path: sha256_of(draft / path) for path in files_of(draft)}
            text = json.dumps({**facts, "files": files}, indent=1)
            (draft / MARKER).write_text(f"{text}\n", encoding="utf-8")
            sync_tree(draft)
            _refuse(target)
            move_into_place(draft, target)
    except OSError as error:
        raise BundleError(
            f"The package at {target} could not be written ({error}): make room or mend the permissions "
            "there, or choose another folder."
        ) from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def files_of(folder: Path) -> list[str]:
    """The relative path, with ``/``, of every file and link in a folder and within, in order."""
    found = []
    for current, folders, files in os.walk(folder):
        links = [name for name in folders if Path(current, name).is_symlink()]
        found += [Path(current, name).relative_to(folder).as_posix() for name in (*links, *files)]
    return sorted(found)


def _refuse(target: Path) -> None:
    if not target.name:
        raise InputError(f"{target} is the root of a file system: name a folder for the package.")
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{target} is a file: {_ELSEWHERE}")
    held = files_of(target)
    if not held and not any(target.iterdir()):
        return
    ours = _marked(target)
    foreign = next((path for path in held if path not in ours and path != MARKER), None)
    if foreign is not None:
        raise InputError(
            f"{target} holds {foreign}, which no package put there and replacing it would delete: "
            f"{_ELSEWHERE}"
        )
    changed = next((path for path in held if path != MARKER and sha256_of(target / path) != ours[path]), None)
    if changed is not None:
        raise InputError(
            f"{target / changed} was changed since it was packaged, and replacing it would lose that: "
            f"{_ELSEWHERE}"
        )


def _marked(target: Path) -> dict[str, str]:
    try:
        files = json.loads((target / MARKER).read_bytes())["files"]
        return {str(path): str(digest) for path, digest in files.items()}
    except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{target} is a folder that is no package of FastSpan: {_ELSEWHERE}") from error

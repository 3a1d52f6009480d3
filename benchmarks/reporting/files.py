"""Write result files: whole or not at all, with an error that names the file."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fastspan.errors import InputError

__all__ = ["make_folder", "write_text"]


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder for results, with its parents, unless it is there.

    Raises:
        InputError: It cannot be made.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be made a folder for results ({error.strerror}).") from error
    return path


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8, replacing one that is there; its folder is made.

    Raises:
        InputError: It cannot be written.
    """
    target = Path(path)
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}).") from error
    finally:
        temporary.unlink(missing_ok=True)

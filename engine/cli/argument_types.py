"""The types of arguments: what a word on the command line becomes, or why it cannot."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from fastspan.bundle.beside.calibrations import DOMAIN

__all__ = ["domain", "inner_share", "new_path", "number", "path", "positive", "share"]


def positive(text: str) -> int:
    """The type of a whole number of at least 1."""
    # Python refuses to read whole numbers of thousands of digits; no option means one of more than twenty.
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not a whole number of at least 1")
    return value


def number(text: str) -> float:
    """The type of any number, infinities included."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not a number")
    return value


def domain(text: str) -> str:
    """The type of the name of a domain."""
    if not DOMAIN.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{_shown(text)} is not a name of at most 64 letters, digits and ._-"
        )
    return text


def inner_share(text: str) -> float:
    """The type of a number above 0 and below 1."""
    value = number(text)
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not above 0 and below 1")
    return value


def share(text: str) -> float:
    """The type of a number from 0 to 1."""
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not a share from 0 to 1")
    return value


def path(text: str) -> Path:
    """The type of a path that a command writes to; a tilde is expanded."""
    # A shell expands a tilde only where it is not quoted, and not in --out=~/bundle.
    try:
        found = Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(
            f"{_shown(text)} names no user's home folder: write the whole path"
        ) from error
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not a path")
    return found


def new_path(text: str) -> Path:
    """The type of a file or folder that a command makes or replaces: any but the root of a file system."""
    found = path(text)
    if not os.path.basename(os.path.abspath(found)):  # noqa: PTH100, PTH119 - resolve() would follow links
        raise argparse.ArgumentTypeError(
            f"{_shown(text)} cannot be replaced: name a folder or a file within it"
        )
    return found


def _shown(text: str) -> str:
    quoted = repr(text)
    return quoted if len(quoted) <= 80 else f"{quoted[:80]}…"

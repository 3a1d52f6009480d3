"""The bundles of a command as they are named: where each is, and as which variant it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, get_args

from fastspan.bundle.variants import VariantName
from fastspan.errors import InputError

__all__ = ["Source", "named_sources"]

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?::([^=]*))?=(.+)", re.DOTALL)


class Source(NamedTuple):
    """What to load.

    Attributes:
        place: A folder or hub id.
        variant: Its own variant; None: the one that ``--variant`` names.
    """

    place: str
    variant: str | None = None


def named_sources(words: list[str]) -> list[tuple[str | None, Source]]:
    """Read ``BUNDLE``, ``NAME=BUNDLE`` and ``NAME:VARIANT=BUNDLE``; a folder may have an equals sign too.

    Returns:
        The name of each, None where none was given, and what to load.

    Raises:
        InputError: A variant is none, or two have one name.
    """
    found: list[tuple[str | None, Source]] = []
    for word in words:
        named = None if Path(word).exists() else _NAMED.fullmatch(word)
        if named is None:
            found.append((None, Source(word)))
            continue
        name, variant, place = named.groups()
        if variant is not None and variant not in get_args(VariantName):
            known = ", ".join(get_args(VariantName))
            raise InputError(f"{word[:200]!r} names no variant behind the colon: it may be {known}.")
        found.append((name, Source(place, variant)))
    names: Mapping[str | None, int] = {name: sum(name == other for other, _ in found) for name, _ in found}
    if twice := [name for name, times in names.items() if name is not None and times > 1]:
        raise InputError(f"Two bundles are called {twice[0]!r}: give each a name of its own.")
    return found

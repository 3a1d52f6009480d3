"""What commands print: text that is safe for a terminal, colours only where one shows them, tables, JSON."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TextIO

__all__ = ["Style", "harmless", "labelled", "megabytes", "one_line", "table", "write", "write_json"]


class Style:
    """Marks text for a stream: with escape codes on a terminal, else not at all.

    The environment variable NO_COLOR, of any length but zero, turns the codes off (no-color.org).

    Args:
        stream: Where the text will go.
    """

    def __init__(self, stream: TextIO) -> None:
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self.coloured = stream.isatty() and not plain

    def answer(self, text: str) -> str:
        """Mark an answer: bold green, or between asterisks."""
        return self._in("1;32", text) if self.coloured else f"**{text}**"

    def strong(self, text: str) -> str:
        """Mark a heading."""
        return self._in("1", text)

    def faint(self, text: str) -> str:
        """Mark what matters less."""
        return self._in("2", text)

    def good(self, text: str) -> str:
        """Mark what is as it should be."""
        return self._in("32", text)

    def bad(self, text: str) -> str:
        """Mark what is not as it should be."""
        return self._in("31", text)

    def _in(self, codes: str, text: str) -> str:
        return f"\x1b[{codes}m{text}\x1b[0m" if self.coloured else text


def write(text: str = "") -> None:
    """Write a line, or several, to standard output."""
    sys.stdout.write(f"{text}\n")


def write_json(value: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Write an object as JSON that every reader of JSON takes.

    A number that is not finite becomes null. Half of a surrogate pair, which stands for a byte that was no
    UTF-8 or comes from broken JSON, becomes its escape as text: a backslash, ``u`` and four digits.
    """
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    write(json.dumps(_sayable(value), ensure_ascii=not unicode, indent=indent, allow_nan=False))


def harmless(text: str) -> str:
    """Show control characters, which a terminal would obey, as U+FFFD; white space stays."""
    return "".join(
        "\ufffd" if unicodedata.category(character) == "Cc" and not character.isspace() else character
        for character in text
    )


def one_line(text: str) -> str:
    """Squeeze white space, and show control characters as ``harmless`` does."""
    return re.sub(r"\s+", " ", harmless(text))


def megabytes(size: int) -> str:
    """A size for people: ``86.3 MB``, of 10^6 bytes."""
    return f"{size / 1e6:.1f} MB"


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], style: Style, *, right: Collection[int] = ()
) -> str:
    """Lay out rows in columns under a header.

    Args:
        header: The columns' titles.
        rows: Their cells.
        style: Marks the header.
        right: Places of the columns that are aligned at their right end, as numbers are; from 0.
    """
    shown = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in shown
    ]
    return "\n".join([style.strong(lines[0]), *lines[1:]])


def labelled(label: str, lines: Sequence[str], width: int = 14) -> str:
    """A label with its lines to the right of it, aligned; on a terminal, wrapped to its width."""
    shown = [one_line(line) for line in lines] or ["–"]
    if sys.stdout.isatty():
        room = max(40, shutil.get_terminal_size().columns - width)
        shown = [part for line in shown for part in textwrap.wrap(line, room, break_on_hyphens=False)]
    first, *rest = shown
    return "\n".join([f"{label.ljust(width)}{first}", *(" " * width + line for line in rest)])


def _sayable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_sayable(key): _sayable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(item) for item in value]
    return value

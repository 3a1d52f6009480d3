"""What commands print: text that is safe for a terminal, colours only where one shows them, tables, JSON."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TextIO

__all__ = [
    "Style",
    "harmless",
    "labelled",
    "megabytes",
    "one_line",
    "say",
    "table",
    "told",
    "write",
    "write_json",
]

_LONGEST_MESSAGE = 1500

# What a terminal obeys instead of showing: C0 but for line feed and tab, DEL and C1; and what turns the order
# of letters around, so that a name reads as another one (U+202A to U+202E and U+2066 to U+2069).
_OBEYED = "\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"
_STEERING = re.compile(f"[{_OBEYED}]")
# The codes of ``Style`` itself, or else one of those.
_OWN_OR_STEERING = re.compile(rf"(\x1b\[(?:[0-2]|3[12]|1;32)m)|[{_OBEYED}]")
# In JSON, json.dumps escapes C0 alone.
_RAW_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


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
    """Write lines to standard output, with nothing that a terminal obeys but the codes of ``Style``."""
    coloured = Style(sys.stdout).coloured
    safe = _OWN_OR_STEERING.sub(lambda found: (coloured and found[1]) or "\ufffd", text)
    sys.stdout.write(f"{safe}\n")


def say(text: str) -> None:
    """Write one line to standard error at once, nothing in it that a terminal obeys."""
    sys.stderr.write(f"{one_line(text)}\n")
    sys.stderr.flush()


def told(error: object) -> str:
    """Return what an error says, as one line that is never long."""
    text = one_line(str(error)).strip() or type(error).__name__
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"


def write_json(value: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Write an object as JSON that every reader of JSON takes.

    A number that is not finite becomes null. Half of a surrogate pair, which stands for a byte that was no
    UTF-8 or comes from broken JSON, becomes its escape as text: a backslash, ``u`` and four digits. What a
    terminal would obey is written as JSON's escape, which readers turn back.
    """
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(_sayable(value), ensure_ascii=not unicode, indent=indent, allow_nan=False)
    write(_RAW_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def harmless(text: str) -> str:
    """Show what a terminal would obey as U+FFFD; line feeds and tabs stay."""
    return _STEERING.sub("\ufffd", text)


def one_line(text: str) -> str:
    """Squeeze white space, of which some would steer a terminal too; the rest is as in ``harmless``."""
    return harmless(re.sub(r"\s+", " ", text))


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

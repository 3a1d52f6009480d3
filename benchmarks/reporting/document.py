"""A report as blocks, and its Markdown; see ``html`` for the page that is made of that Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from fastspan.export.publishing.markdown_table import markdown_table

__all__ = [
    "NONE",
    "Block",
    "Code",
    "Figure",
    "Heading",
    "Paragraph",
    "Table",
    "markdown",
    "plain",
    "without_empty_columns",
]

NONE = "–"
"""What stands in a cell that has no figure."""

_WIDTH = 118
# What Markdown would read as something else than text, where other programs' messages hold it.
_SPECIAL = re.compile(r"[\\`*<\[]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")
_CODE = re.compile(r"(?<!\\)`[^`\n]+`")
# Stands for a space that no line is broken at.
_KEPT = "\N{NULL}"
# What at the beginning of a line begins a list, a heading or a quotation.
_BEGINNING = re.compile(r"(?:[-+*>]|#{1,6}|\d+[.)])(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 to 4."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph, in Markdown."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to copy."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first columns are text and whose others are figures.

    Attributes:
        headers: Titles of the columns.
        rows: Cells in Markdown, as many a row as there are headers.
        texts: How many columns, from the first, hold texts. A page keeps the first in sight.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot.

    Attributes:
        file: Its path, relative to the report.
        caption: What it shows.
    """

    file: str
    caption: str


Block = Heading | Paragraph | Code | Table | Figure


def markdown(blocks: Sequence[Block]) -> str:
    """Write the report in Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def plain(text: str) -> str:
    """Return a text in which Markdown finds nothing to format, such as another program's message."""
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", text)


def without_empty_columns(table: Table) -> Table:
    """Return the table without the columns of figures that no row has a figure in."""
    kept = [
        column
        for column in range(len(table.headers))
        if column < table.texts or any(row[column] != NONE for row in table.rows)
    ]
    return Table(
        headers=[table.headers[column] for column in kept],
        rows=[[row[column] for column in kept] for row in table.rows],
        texts=table.texts,
    )


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return _wrapped(text)
        case Code(text):
            return f"```sh\n{text}\n```"
        case Figure(file, caption):
            return f"![{caption}]({file})\n\n{_wrapped(caption)}"
        case Table(headers, rows, texts):
            return markdown_table(headers, rows, texts=texts)


def _wrapped(text: str) -> str:
    lines: list[str] = []
    # What is to be copied stays on one line.
    joined = _CODE.sub(lambda found: found[0].replace(" ", _KEPT), text)
    for line in textwrap.wrap(joined, _WIDTH, break_long_words=False, break_on_hyphens=False):
        # A word that would begin a list where it begins a line stays on the line before.
        if lines and _BEGINNING.match(line):
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return "\n".join(lines).replace(_KEPT, " ")

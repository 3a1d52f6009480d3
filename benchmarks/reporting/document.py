"""A report as blocks, and its Markdown. Texts may hold `code` and **bold** and nothing else of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Block", "Code", "Figure", "Heading", "Paragraph", "Table", "markdown"]


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 to 3."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph."""

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
        rows: Cells, as many a row as there are headers.
        texts: How many columns, from the first, hold texts.
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


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return text
        case Code(text):
            return f"```sh\n{text}\n```"
        case Figure(file, caption):
            return f"![{caption}]({file})\n\n{caption}"
        case Table(headers, rows, texts):
            rule = ["---" if column < texts else "---:" for column in range(len(headers))]
            lines = [headers, rule, *rows]
            return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

"""Tables in Markdown: the one writer for model cards, reports and whatever else holds one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["markdown_table"]


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int) -> str:
    """Write a table in GitHub's Markdown, without a newline at its end.

    Args:
        headers: Titles of the columns.
        rows: Cells, as many a row as there are headers; they may hold Markdown, and bars are escaped.
        texts: How many columns, from the first, hold texts; the others hold figures, aligned to the right.
    """
    rule = ["---" if column < texts else "---:" for column in range(len(headers))]
    lines = (headers, rule, *rows)
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

"""A report's Markdown as one HTML file that needs nothing else, plots within: for phone, screen and print."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastspan.benchmarks.reporting.page_style import PAGE_STYLE
from fastspan.errors import MissingDependency

__all__ = ["BELOW", "to_html"]

BELOW = "✗"
"""The mark behind a share that is too small; where a cell begins with one, its row is set back."""

# Cells longer than this are wrapped instead of widening the table.
_LONG_CELL = 44
_TOO_SMALL = re.compile(rf"[\d.]+% {BELOW}.*")


def to_html(text: str, folder: Path, *, ours: str) -> str:
    """Write the page.

    Args:
        text: The report in Markdown, as ``document.markdown`` writes it; its first heading is the title.
        folder: Where its plots lie.
        ours: Rows whose first cell begins with this text are set off.

    Raises:
        MissingDependency: markdown-it-py is not installed.
    """
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise MissingDependency(
            'Reports need markdown-it-py: run pip install "fastspan[bench]", or `make dev`.'
        ) from error
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(text)
    title = next(tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open")
    links = _name_headings(tokens)
    _describe_tables(tokens, ours)
    _lead_to_pages(tokens)
    # Read from the end, so that places before what is replaced stay what they are.
    for place in reversed(range(len(tokens))):
        if _is_plot(tokens, place):
            tokens[place : place + 6] = [_figure(tokens, place, folder)]
    body = reader.renderer.render(tokens, reader.options, {})
    first, closing, rest = body.partition("</h1>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{PAGE_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{first}{closing}\n<nav>{links}</nav>{_boxed(rest)}</main>\n</body>\n</html>\n"
    )


def _name_headings(tokens: Sequence[Any]) -> str:
    """Give every heading an id of its own, and return links to those of level 2."""
    taken: set[str] = set()
    links = []
    for place, token in enumerate(tokens):
        if token.type != "heading_open":
            continue
        text = tokens[place + 1].content
        base = name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
        number = 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name)
        token.attrSet("id", name)
        if token.tag == "h2":
            links.append(f'<a href="#{name}">{html.escape(text)}</a>')
    return " ".join(links)


def _describe_tables(tokens: Sequence[Any], ours: str) -> None:
    """Mark the rows that are ours or fall behind, and the cells that are to be wrapped."""
    row: Any = None
    first = False
    for place, token in enumerate(tokens):
        if token.type == "tr_open":
            row, first = token, True
        elif token.type == "td_open":
            text = tokens[place + 1].content
            if first and text.startswith(ours):
                row.attrJoin("class", "ours")
            if _TOO_SMALL.fullmatch(text):
                row.attrJoin("class", "below")
            if len(text) > _LONG_CELL:
                token.attrJoin("class", "long")
            first = False


def _lead_to_pages(tokens: Sequence[Any]) -> None:
    """Let links to another report lead to its page."""
    for token in tokens:
        for child in token.children or ():
            target = str(child.attrGet("href") or "") if child.type == "link_open" else ""
            if target.endswith("/report.md"):
                child.attrSet("href", target.removesuffix(".md") + ".html")


def _is_plot(tokens: Sequence[Any], place: int) -> bool:
    """Whether a paragraph of nothing but a picture begins here, with its caption behind it."""
    kinds = ["paragraph_open", "inline", "paragraph_close"] * 2
    if [token.type for token in tokens[place : place + 6]] != kinds:
        return False
    children = tokens[place + 1].children
    return len(children) == 1 and children[0].type == "image"


def _figure(tokens: Sequence[Any], place: int, folder: Path) -> Any:
    from markdown_it.token import Token

    (image,) = tokens[place + 1].children
    caption = tokens[place + 4].content
    file: Mapping[str, Any] = image.attrs
    picture = _svg((folder / str(file["src"])).read_text(encoding="utf-8"), f"f{place}-", image.content)
    made = f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>\n"
    return Token("html_block", "", 0, content=made)


def _boxed(body: str) -> str:
    """Put every table into a box that scrolls, so that the page itself never does."""
    return body.replace("<table>", '<div class="table" tabindex="0"><table>').replace(
        "</table>", "</table></div>"
    )


def _svg(text: str, prefix: str, caption: str) -> str:
    """Strip what only a file needs, and make ids unlike those of the page's other plots."""
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = text.replace("url(#", f"url(#{prefix}").replace('href="#', f'href="#{prefix}')
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1)

"""A report as one HTML file that needs nothing else, styles and plots within: for screen, phone and print."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

from fastspan.benchmarks.reporting.document import Block, Code, Figure, Heading, Paragraph, Table

__all__ = ["to_html"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5b6775; --line: #d9dfe5; --back: #fff;
  --band: #f4f6f8; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ee; --soft: #a3aeba; --line: #36414c;
  --back: #12181f; --band: #1b232c; --accent: #6cb7e6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { max-width: 46rem; margin: .75rem 0; overflow-wrap: anywhere; }
nav { font-size: .9rem; margin: 1rem 0; } nav a { margin-right: 1rem; white-space: nowrap; }
a { color: var(--accent); }
code { font: .9em ui-monospace, monospace; background: var(--band); padding: .1em .3em; border-radius: 3px; }
pre { overflow-x: auto; background: var(--band); padding: .75rem 1rem; border-radius: 6px; }
pre code { padding: 0; background: none; }
.table { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .8rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .45rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; background: var(--band); font-weight: 600; }
th.text, td.text { text-align: left; }
td.long { white-space: normal; min-width: 16rem; overflow-wrap: anywhere; }
tr:last-child td { border-bottom: 0; } tbody tr.ours td { font-weight: 600; }
tbody tr:nth-child(even) td { background: color-mix(in srgb, var(--band) 55%, var(--back)); }
tbody tr td:first-child, th:first-child { position: sticky; left: 0; }
tbody tr:nth-child(odd) td:first-child { background: var(--back); }
figure { margin: 1.25rem 0; max-width: 46rem; }
figure div { overflow-x: auto; }
figure svg { width: 100%; min-width: 34rem; height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: 6px; }
figcaption { font-size: .85rem; color: var(--soft); margin-top: .35rem; }
@media print { body { font-size: 10pt; } main { max-width: none; padding: 0; } nav { display: none; }
  figure svg { min-width: 0; } .table { overflow: visible; border: 0; }
  table { font-size: 6.5pt; } th { position: static; }
  th, td { padding: .15rem .25rem; white-space: normal; } tr, figure { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  pre { white-space: pre-wrap; } }
"""

# Cells longer than this are wrapped instead of widening the table.
_LONG_CELL = 44


def to_html(blocks: Sequence[Block], folder: Path, *, ours: str) -> str:
    """Write the report as HTML.

    Args:
        blocks: The report; its first heading becomes the title.
        folder: Where its figures lie.
        ours: Rows that have this text in one of their cells are set off.
    """
    title = next(block.text for block in blocks if isinstance(block, Heading))
    sections = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = " ".join(f'<a href="#{_anchor(text)}">{html.escape(text)}</a>' for text in sections)
    parts = []
    for number, block in enumerate(blocks):
        parts.append(_html(block, folder, ours, number))
        if isinstance(block, Heading) and block.level == 1:
            parts.append(f"<nav>{links}</nav>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _html(block: Block, folder: Path, ours: str, number: int) -> str:
    match block:
        case Heading(level, text):
            return f'<h{level} id="{_anchor(text)}">{_inline(text)}</h{level}>'
        case Paragraph(text):
            return f"<p>{_inline(text)}</p>"
        case Code(text):
            return f"<pre><code>{html.escape(text)}</code></pre>"
        case Figure(file, caption):
            picture = _svg((folder / file).read_text(encoding="utf-8"), f"f{number}-", caption)
            return f"<figure><div>{picture}</div><figcaption>{_inline(caption)}</figcaption></figure>"
        case Table():
            return _table(block, ours)


def _table(table: Table, ours: str) -> str:
    opening = {True: '<tr class="ours">', False: "<tr>"}
    rows = "\n".join(f"{opening[ours in row]}{_cells('td', row, table.texts)}</tr>" for row in table.rows)
    head = f"<thead><tr>{_cells('th', table.headers, table.texts)}</tr></thead>"
    return f'<div class="table" tabindex="0"><table>{head}\n<tbody>\n{rows}\n</tbody></table></div>'


def _cells(tag: str, cells: Sequence[str], texts: int) -> str:
    """A row's cells, of which the first ``texts`` are aligned as texts."""
    made = []
    for column, cell in enumerate(cells):
        names = ["text"] if column < texts else []
        if len(cell) > _LONG_CELL and tag == "td":
            names.append("long")
        kind = f' class="{" ".join(names)}"' if names else ""
        made.append(f"<{tag}{kind}>{_inline(cell)}</{tag}>")
    return "".join(made)


def _svg(text: str, prefix: str, caption: str) -> str:
    """Strip what only a file needs, and make ids unlike those of the page's other plots."""
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = text.replace("url(#", f"url(#{prefix}").replace('href="#', f'href="#{prefix}')
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1)


def _inline(text: str) -> str:
    text = html.escape(text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")

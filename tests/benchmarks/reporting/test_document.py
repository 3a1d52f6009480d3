"""Reports as Markdown, and the page that is made of it."""

from __future__ import annotations

import re

import pytest

from fastspan.benchmarks.reporting.document import (
    Code,
    Figure,
    Heading,
    Paragraph,
    Table,
    markdown,
    plain,
    without_empty_columns,
)
from fastspan.errors import MissingDependency
from support.packages import hide

SVG = '<?xml version="1.0"?>\n<svg width="10"><g id="a"/><use href="#a" clip-path="url(#a)"/></svg>'


def page(blocks, folder, ours="FastSpan"):
    pytest.importorskip("markdown_it")
    from fastspan.benchmarks.reporting.html import to_html

    return to_html(markdown(blocks), folder, ours=ours)


def test_paragraphs_are_wrapped_and_no_word_becomes_a_list():
    words = ["word"] * 23 + ["+", "-5", "1.", "#", "more"] * 20
    text = markdown([Paragraph(" ".join(words))])
    assert text.split() == words
    assert not re.search(r"^(?:[-+*#]|\d+\.)\s", text, re.MULTILINE)
    assert len(text.splitlines()) > 2
    assert len(text.splitlines()[0]) <= 120


def test_what_is_to_be_copied_stays_on_one_line():
    text = markdown([Paragraph("word " * 22 + "`make bench --all of it` " * 4)])
    assert text.count("`make bench --all of it`") == 4


def test_columns_that_nobody_fills_are_left_out_and_texts_stay():
    table = Table(("a", "b", "c", "d"), [("x", "–", "–", "1"), ("y", "–", "–", "–")], texts=2)
    found = without_empty_columns(table)
    assert (found.headers, found.rows) == (["a", "b", "d"], [["x", "–", "1"], ["y", "–", "–"]])


@pytest.mark.parametrize(
    "text", ["a * b * c", "<Signals.SIGKILL: 9>", "_x_ `y` [z](w)", "&lt; C:\\new", "a_b|c"]
)
def test_a_message_of_others_is_shown_as_it_is(text, tmp_path):
    shown = page([Heading(1, "t"), Paragraph(plain(text)), Table(("h",), [(plain(text),)])], tmp_path)
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f"<p>{escaped}</p>" in shown
    assert f"<td>{escaped}</td>" in shown


def test_a_page_has_names_a_box_for_every_table_and_its_plots_within(tmp_path):
    (tmp_path / "plot.svg").write_text(SVG)
    blocks = [
        Heading(1, "Title <x>"),
        Heading(2, "Same"),
        Heading(2, "Same"),
        Figure("plot.svg", "What it shows"),
        Table(("System", "ms"), [("FastSpan int8", "1"), ("other", "94.0% ✗"), ("long", "word " * 20)]),
        Code("make bench"),
    ]
    text = page(blocks, tmp_path)
    assert "<title>Title &lt;x&gt;</title>" in text
    assert '<a href="#same">Same</a> <a href="#same-2">Same</a>' in text
    assert text.count('<div class="table"') == text.count("<table>") == 1
    assert '<tr class="ours">' in text
    assert '<tr class="below">' in text
    assert text.count('class="long"') == 1
    (picture,) = re.findall(r"<figure>(.*?)</figure>", text, re.DOTALL)
    assert picture.startswith('<svg role="img" aria-label="What it shows"')
    assert text.count("What it shows") == 2
    prefix = re.search(r'id="(f\d+-)a"', picture)[1]
    assert f'href="#{prefix}a"' in picture
    assert f"url(#{prefix}a)" in picture


def test_without_markdown_it_the_error_says_what_to_install(monkeypatch, tmp_path):
    from fastspan.benchmarks.reporting.html import to_html

    hide(monkeypatch, "markdown_it")
    with pytest.raises(MissingDependency, match=r"fastspan\[bench\]"):
        to_html("# t\n", tmp_path, ours="x")

"""Borders of grapheme clusters, against the package ``regex`` where it is installed."""

from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastspan.text import grapheme_table
from fastspan.text.grapheme_table import CLASSES
from fastspan.text.graphemes import LONGEST, is_border, widen_to_graphemes
from support.paths import ROOT

# One and the same character to a reader, each.
CLUSTERS = [
    "a",
    "e\u0301",
    "o\u0302\u0323",
    "\r\n",
    "\u2764\ufe0f",
    "1\ufe0f\u20e3",
    "\U0001f44d\U0001f3fd",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f3f4\u200d\u2620\ufe0f",
    "\U0001f1e9\U0001f1ea",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "\u1112\u1161\u11ab",
    "\u1112\u1161",
    "\uac00\u11a8",
    "\uac01",
    "\u0e1b\u0e35",
    "\u0e01\u0e33",
    "\u0645\u064e\u0651",
    "\u0915\u094d\u0937\u093f",
    "\u0600\u0661",
    "\u304b\u3099",
    "\u05e9\u05c1",
    "\uff76\uff9e",
    "\u1019\u103c",
    "\u4e2d",
    " ",
]


def borders(text: str) -> list[int]:
    return [index for index in range(len(text) + 1) if is_border(text, index)]


@pytest.mark.parametrize("cluster", CLUSTERS, ids=ascii)
def test_a_character_is_not_cut(cluster: str) -> None:
    for other in ("a", "\u4e2d", "\U0001f600", "\uac01"):
        text = other + cluster + other
        assert borders(text)[:4] == [0, 1, 1 + len(cluster), len(text)]
        for start in range(1, 1 + len(cluster)):
            for end in range(start + 1, 2 + len(cluster)):
                assert widen_to_graphemes(text, start, end) == (1, 1 + len(cluster))


def test_flags_in_a_row_are_told_apart() -> None:
    flags = "\U0001f1e9\U0001f1ea" * 300
    assert borders(flags) == list(range(0, 601, 2))
    assert widen_to_graphemes(flags, 301, 302) == (300, 302)


def test_empty_spans_stay_and_endless_clusters_are_cut() -> None:
    assert widen_to_graphemes("e\u0301", 1, 1) == (1, 1)
    text = "e" + "\u0301" * 10_000
    assert widen_to_graphemes(text, 5000, 5001) == (5000 - LONGEST, 5001 + LONGEST)


ANY = st.sampled_from(
    [chr(int(part.split("-")[0], 16)) for ranges in CLASSES.values() for part in ranges.split()]
    + [*"aé \r\n\u0301\u200d\u200c\u094d\u0915\u1100\u1161\u11a8\uac00\uac01❤️", "\U0001f468", "\U0001f1e9"]
) | st.characters(exclude_categories=["Cs"])


@settings(max_examples=1000, deadline=None)
@given(st.lists(ANY, max_size=12).map("".join))
def test_borders_are_those_of_regex(text: str) -> None:
    regex = pytest.importorskip("regex")
    expected = [0]
    for found in regex.findall(r"\X", text):
        expected.append(expected[-1] + len(found))
    assert borders(text) == (expected if text else [0])


@pytest.mark.reference
def test_the_table_is_what_its_command_writes() -> None:
    pytest.importorskip("regex")
    command = [sys.executable, str(ROOT / "tests/support/programs/write_grapheme_table.py")]
    written = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    with open(grapheme_table.__file__, encoding="utf-8") as file:
        assert file.read() == written


def test_marks_that_python_knows_are_in_the_table() -> None:
    for code in range(0x300, 0x110000):
        if unicodedata.category(chr(code)) in ("Mn", "Me"):
            assert not is_border("a" + chr(code), 1), hex(code)

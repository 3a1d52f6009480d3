"""The sentence around a span, in several scripts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastspan.text.sentences import FARTHEST, TERMINATORS, sentence_around


def sentence(text: str, span: str) -> str:
    start = text.index(span)
    begin, stop = sentence_around(text, start, start + len(span))
    return text[begin:stop]


@pytest.mark.parametrize(
    ("before", "expected", "after", "span"),
    [
        ("He came. ", "Rollo led them!", " Who knows?", "Rollo"),
        ("He came! ", "Rollo led them?", " Yes.", "led"),
        ("", "“Rollo led them.”", " He said it twice.", "Rollo"),
        ("(It was so.) ", "Rollo led them", "\n\nNext chapter", "Rollo"),
        ("One.\n\n", "A line\nthat wraps.", "\n\nTwo.", "wraps"),
        ("他来了。", "他在北京住了三年。", "后来走了。", "北京"),
        ("雨が降った！", "東京で傘を買った。", "安かった。", "東京"),
        ("비가 왔다. ", "그는 서울에 산다.", " 그녀도 산다.", "서울"),
        ("वह आया। ", "वह दिल्ली में रहता है।", " फिर गया।", "दिल्ली"),
        ("جاء الرجل. ", "هل هو في القاهرة؟", " نعم.", "القاهرة"),
        ("وہ آیا۔ ", "وہ لاہور میں ہے۔", " پھر گیا۔", "لاہور"),
        ("Նա եկավ։ ", "Նա Երևանում է։", " Վերջ։", "Երևանում"),
        ("ย่อหน้าแรก\n\n", "เขาอยู่ที่กรุงเทพ มาสามปี", "\n\nย่อหน้าใหม่", "กรุงเทพ"),
        ("ႏ။ ", "သူသည် ရန်ကုန်၌ နေသည်။", " ပြီး။", "ရန်ကုန်"),
    ],
)
def test_a_sentence_ends_at_the_terminators_of_its_script(before, expected, after, span):
    assert sentence(before + expected + after, span) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Dr. J. Smith of the U.S. Army, St. Louis, met Mr. Jones at 3.5 Main Rd near example.org today.",
        "See Fig. 3 and No. 5 of vol. 2, e.g. the last.",
        "Yahoo! is a name; what ... remains is a pause.",
        "Es gibt z. B. Rom und Athen.",
    ],
)
def test_a_full_stop_may_end_nothing(text):
    middle = len("Before it. ") + len(text) // 2
    whole = f"Before it. {text} And after."
    begin, stop = sentence_around(whole, middle, middle + 1)
    assert whole[begin:stop] == text


def test_a_word_that_is_also_an_abbreviation_ends_a_sentence_unless_a_number_follows():
    assert sentence("Did he? He said no. Then he left.", "said") == "He said no."
    assert sentence("He lived until 1999. Then he died.", "lived") == "He lived until 1999."


def test_a_span_over_several_sentences_gets_all_of_them():
    assert sentence("One. Two three. Four five. Six.", "three. Four") == "Two three. Four five."


def test_the_end_of_the_span_may_be_the_terminator():
    assert sentence("One. Two three. Four.", "three.") == "Two three."


def test_what_never_ends_is_cut_between_words():
    text = "word " * 5000
    begin, stop = sentence_around(text, 12_500, 12_504)
    assert FARTHEST - 10 < 12_500 - begin <= FARTHEST
    assert FARTHEST - 10 < stop - 12_504 <= FARTHEST
    assert text[begin:stop].split() == ["word"] * len(text[begin:stop].split())
    unbroken = "x" * 20_000
    assert sentence_around(unbroken, 10_000, 10_001) == (10_000 - FARTHEST, 10_001 + FARTHEST)


@settings(max_examples=300)
@given(
    st.text(st.sampled_from("ab A.!?。 \n\u2029\"'()।3"), max_size=60),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_the_span_is_never_cut_and_the_rest_is_trimmed(text, one, other):
    start, end = sorted((min(one, len(text)), min(other, len(text))))
    begin, stop = sentence_around(text, start, end)
    assert 0 <= begin <= start <= end <= stop <= len(text)
    if begin < start:
        assert not text[begin].isspace()
    if stop > end:
        assert not text[stop - 1].isspace()


def test_the_terminators_are_those_of_unicode():
    regex = pytest.importorskip("regex")
    listed = {
        code
        for written in TERMINATORS.split()
        for first, _, last in [written.partition("-")]
        for code in range(int(first, 16), int(last or first, 16) + 1)
    }
    pattern = regex.compile(r"\p{Sentence_Terminal}")
    known = {c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and pattern.match(chr(c))}
    # A newer Unicode adds some, an older one lacks some; none goes.
    assert listed <= known or known <= listed
    assert len(listed ^ known) < 20

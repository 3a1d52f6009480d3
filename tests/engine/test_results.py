"""An answer's sentence, its offsets in UTF-16, and the text with answers marked."""

from __future__ import annotations

import html
import re

import pytest

from fastspan import Answer, InputError, PassageAnswer, Prediction, Reading
from fastspan.marked_text import MarkedText, Place

CONTEXT = "Er kam. \U0001f600 <B>Rollo</B> & \U0001f600 führte sie an. Ende."


def found(text: str, context: str = CONTEXT) -> Answer:
    start = context.index(text)
    return Answer(text, start, start + len(text), 1.0)


def predicted(*texts: str) -> Prediction:
    answers = tuple(map(found, texts))
    return Prediction(answers[0], answers, 0.5, 0.0, 1.0)


def test_the_sentence_of_an_answer() -> None:
    begin, end = found("Rollo").sentence(CONTEXT)
    assert CONTEXT[begin:end] == "\U0001f600 <B>Rollo</B> & \U0001f600 führte sie an."


@pytest.mark.parametrize("text", ["Er", "Rollo", "\U0001f600 führte", "Ende."])
def test_offsets_in_utf_16(text: str) -> None:
    answer = found(text)
    start, end = answer.utf16(CONTEXT)
    assert CONTEXT.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le") == text


def test_another_text_is_refused() -> None:
    for ask in (found("Rollo").sentence, found("Rollo").utf16, predicted("Rollo").marked):
        for other in (CONTEXT[1:], "", None):
            with pytest.raises(InputError, match=r"does not stand at|must be a string"):
                ask(other)  # type: ignore[arg-type]


def plain(shown: str) -> str:
    """What a reader sees of the marked text, numbers of answers aside."""
    shown = re.sub(r"<style>.*?</style>|<sup>\d+</sup>", "", shown)
    return html.unescape(re.sub(r"<[^>]+>", "", shown))


def test_a_notebook_sees_the_answers_in_the_text_and_nothing_else() -> None:
    shown = predicted("Rollo", "führte", "Rollo</B> & \U0001f600 führte sie").marked(CONTEXT)._repr_html_()
    assert plain(shown) == CONTEXT
    assert "<mark>Rollo<sup>1</sup></mark>" in shown
    assert '<mark class="rest">führte<sup>2</sup></mark>' in shown
    assert shown.count("<sup>3</sup>") == 1
    assert "<B>" not in shown


def test_the_closest_span_of_an_unanswered_question_is_not_marked_as_its_answer() -> None:
    shown = MarkedText(("a b",), (Place(0, 0, 1),), answered=False)._repr_html_()
    assert '<mark class="rest">a</mark> b' in shown


def test_a_page_is_whole_and_runs_nothing() -> None:
    hostile = "<script>alert(1)</script>\0\ud800 </div>"
    page = MarkedText((hostile,), (Place(0, 8, 13),), answered=True).to_page('"><script>', "a < b")
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    assert "&lt;script&gt;<mark>alert</mark>(1)" in page
    assert "\0" not in page
    page.encode("utf-8")
    assert "default-src 'none'" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']""", page)


def test_a_reading_shows_the_passages_that_hold_answers() -> None:
    passages = ["nothing here", ("x", "Rollo came."), "It was Rollo."]
    answers = (
        PassageAnswer("Rollo", 7, 12, 2.0, 0.0, 2, None, (0, 13)),
        PassageAnswer("Rollo", 0, 5, 1.0, 0.0, 1, "x", (0, 11)),
    )
    marked = Reading(answers[0], answers, 0.9, -2.0, float("inf"), 1, 3).marked(passages)
    assert marked.texts == ("It was Rollo.", "Rollo came.")
    shown = marked._repr_html_()
    assert "It was <mark>Rollo<sup>1</sup></mark>." in shown
    assert '<mark class="rest">Rollo<sup>2</sup></mark> came.' in shown
    with pytest.raises(InputError, match="does not stand"):
        Reading(answers[0], answers, 0.9, -2.0, float("inf"), 1, 3).marked(passages[:2])

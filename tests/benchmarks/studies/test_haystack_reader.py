"""What the comparison of Haystack readers counts, with stand-ins for both."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.benchmarks.studies.haystack_reader import Comparison, ask, compare, documents_of, main

CAFE = SimpleNamespace(id="cafe", content="the cafe\u0301 of Rollo")


def answer(start, end, score, document=CAFE):
    offset = None if document is None else SimpleNamespace(start=start, end=end)
    data = None if document is None else document.content[start:end]
    return SimpleNamespace(data=data, document=document, document_offset=offset, score=score)


NONE = answer(0, 0, 0.1, None)


class Reader:
    """A reader that finds the last word of every document, and is unsure."""

    def __init__(self, shift):
        self.shift = shift

    def run(self, query, documents):
        ends = [
            (len(d.content) - len(d.content.split()[-1]), len(d.content), 0.5 + self.shift) for d in documents
        ]
        return {"answers": [*(answer(*end, d) for end, d in zip(ends, documents, strict=True)), NONE]}


def test_a_question_has_its_own_context_among_three():
    questions = open_data(None).questions
    places = set()
    for question in questions:
        documents = documents_of(questions, question)
        assert len(documents) == len(set(documents)) == 3
        places.add(documents.index(question.context))
    assert places == {0, 1, 2}
    assert documents_of(questions[:1], questions[0]) == [questions[0].context]


def test_answers_are_equal_as_whole_characters():
    whole, cut = answer(4, 9, 0.7), answer(4, 8, 0.6)
    assert compare([[whole, NONE]], [[cut, NONE]]) == Comparison(1, 2, 1, 1, pytest.approx(0.1))
    assert compare([[whole]], [[answer(13, 18, 0.7)]]) == Comparison(1, 1, 0, 0, 0.0)
    assert compare([[whole, NONE]], [[NONE, whole]]).equal == 0
    assert compare([[whole]], [[whole, NONE]]).equal == 0
    assert compare([], []) == Comparison(0, 0, 0, 0, 0.0)


def test_every_question_is_asked_of_its_documents():
    questions = open_data(None).questions[:4]
    found = ask(Reader(0), questions, [[CAFE]] * 4)
    assert [[a.data for a in of] for of in found] == [["Rollo", None]] * 4


def test_the_report_says_what_was_found(capsys):
    def document(text):
        return SimpleNamespace(id=text, content=text)

    readers = (Reader(0.1), Reader(2e-5), Reader(0), document)
    assert main(["--questions", "5"], readers=lambda: readers) == 0
    printed = capsys.readouterr().out
    assert "5 questions, 3 documents each, 20 answers." in printed
    assert "all answers equal for 5 of 5 questions; scores differ by 2.0e-05 at most." in printed
    assert printed.count("EM ") == printed.count("F1 ") == 3


def test_a_package_that_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main([]) == 1
    assert "torch is not installed: run pip install -r" in capsys.readouterr().err

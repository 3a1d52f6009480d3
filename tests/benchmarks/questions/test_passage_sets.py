"""A question's passage among others like it, by BM25."""

from __future__ import annotations

import math

import pytest

from fastspan.benchmarks.questions.bm25 import Bm25
from fastspan.benchmarks.questions.passage_sets import passage_sets
from fastspan.errors import DataError
from support.questions.tiny_questions import question

TEXTS = ["The red fox.", "A blue cat sat on a blue mat.", "Fox, fox and fox!", "Nothing of the kind"]


def test_bm25_is_the_published_formula():
    index = Bm25(TEXTS)
    # "fox" stands in 2 of 4 texts; the first has 3 words of 4.5 on average.
    rarity = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    lengths = [3, 8, 4, 4]
    mean = sum(lengths) / 4
    held = 1.2 * (0.25 + 0.75 * 3 / mean)
    assert index.scores("fox?")[0] == pytest.approx(rarity * 2.2 / (1 + held))
    held = 1.2 * (0.25 + 0.75 * 4 / mean)
    assert index.scores("FOX fox")[2] == pytest.approx(rarity * 3 * 2.2 / (3 + held))
    assert index.scores("zebra").tolist() == [0.0] * 4
    assert index.best("fox", 3) == [2, 0, 1]
    with pytest.raises(DataError):
        Bm25([])


def test_a_set_holds_the_own_passage_where_the_retriever_has_it():
    questions = [
        question("a", "fox", context=TEXTS[0]),
        question("b", context=TEXTS[1]),
        question("fox", "fox", context=TEXTS[2]),
        question("d", "kind", context=TEXTS[3]),
    ]
    for asked, given in zip(passage_sets(questions, 3), questions, strict=True):
        assert asked.question is given
        assert asked.passages[asked.own] == given.context
        assert len(set(asked.passages)) == 3
        assert list(asked.retriever_scores) == sorted(asked.retriever_scores, reverse=True)
    fox = passage_sets(questions, 2)[2]
    assert fox.passages == (TEXTS[2], TEXTS[0])
    assert fox.own == 0
    assert len(passage_sets(questions, 50)[0].passages) == 4


def test_one_passage_is_no_set():
    with pytest.raises(DataError, match="two passages"):
        passage_sets([question("a", "fox", context=TEXTS[0])], 5)
    with pytest.raises(DataError, match="1 are asked for"):
        passage_sets([question(str(n), context=text) for n, text in enumerate(TEXTS)], 1)

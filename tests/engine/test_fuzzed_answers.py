"""Any question over any text with any options: an answer that stands in the text, or an error of ours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastspan import AnswerOptions, FastSpanError, InputError, Prediction, QuestionAnswerer
from support.fuzzing import check_message, fuzzed, watched
from support.mutations import VALUES

# Every code point, halves of surrogate pairs too; and what is rare at random.
WORDS = ("who", " built ", "the tower", "rollo", ".", "[SEP]", "[CLS]")
MARKS = ("\0", "\ud800", "\udfff", "\u200d", "\u202e", "\r\n", "\ufeff", "\x85", "e\u0301", "\u0e35")
SIGNS = ("\U0001f469\u200d\U0001f469", "\u5317\u4eac")
texts = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(), max_size=60),
    st.lists(st.sampled_from((*WORDS, *MARKS, *SIGNS)), max_size=40).map("".join),
    st.tuples(st.sampled_from((*WORDS, *MARKS, *SIGNS, " ")), st.integers(0, 3000)).map(
        lambda found: found[0] * found[1]
    ),
)
sizes = st.one_of(
    st.integers(-2, 600), st.sampled_from([2**31, 2**63 - 1, 2**63, 10**400]), st.none(), VALUES
)
OPTIONS = {field.name for field in dataclasses.fields(AnswerOptions)}
options = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(OPTIONS, sizes),
        "decoding": st.one_of(st.sampled_from(["squad", "pipeline"]), VALUES),
        "no_answer_threshold": st.one_of(st.floats(), VALUES),
        "align_to_words": st.booleans() | VALUES,
        "handle_impossible_answer": st.booleans() | VALUES,
        "truncate_question": st.booleans() | VALUES,
        "no_such_option": VALUES,
    },
)


@pytest.fixture(scope="module")
def qa(tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", threads=1) as qa:
        yield qa


def check_prediction(prediction: Prediction, context: str) -> None:
    for answer in (*prediction.answers, *([] if prediction.answer is None else [prediction.answer])):
        assert context[answer.start : answer.end] == answer.text
        assert not math.isnan(answer.score)
    assert prediction.confidence is None or 0 <= prediction.confidence <= 1


@fuzzed(examples=150)
@given(question=texts | VALUES, context=texts | VALUES, given_options=options, timeout=st.floats() | VALUES)
def test_any_question(
    qa: QuestionAnswerer, question: Any, context: Any, given_options: dict[str, Any], timeout: Any
) -> None:
    try:
        with watched():
            prediction = qa.answer(question, context, timeout=timeout, **given_options)
    except FastSpanError as error:
        check_message(error)
    else:
        check_prediction(prediction, context)


@fuzzed(examples=60)
@given(
    pairs=st.lists(st.tuples(texts, texts) | st.tuples(VALUES, texts) | VALUES, max_size=5) | VALUES,
    given_options=options,
    on_error=st.sampled_from(["raise", "yield"]) | VALUES,
)
def test_any_pairs(qa: QuestionAnswerer, pairs: Any, given_options: dict[str, Any], on_error: Any) -> None:
    found = []
    try:
        with watched():
            found += qa.answer_many(pairs, on_error=on_error, **given_options)
    except FastSpanError as error:
        check_message(error)
    else:
        assert len(found) == len(list(pairs))
    for prediction, pair in zip(found, pairs if isinstance(pairs, list) else [], strict=False):
        if isinstance(prediction, InputError):
            check_message(prediction)
        else:
            check_prediction(prediction, pair[1])

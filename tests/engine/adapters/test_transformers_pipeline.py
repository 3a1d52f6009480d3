"""The pipeline adapter against the pipeline of transformers 4.57, call form by call form."""

from __future__ import annotations

import warnings
from functools import cache
from types import SimpleNamespace

import pytest

from fastspan.adapters.transformers_pipeline import pipeline
from support.questions.real_questions import long_pairs, real_pairs, reference_model, reference_tokenizer

CONTEXT = (
    "The Normans descended from Norse raiders who, under their leader Rollo, swore fealty to King "
    "Charles III."
)
WHO, KING = "Who led the raiders?", "Who was king?"
ONE = {"question": WHO, "context": CONTEXT}
TWO = {"question": KING, "context": CONTEXT}
LONG = "Who " + "really " * 100 + "led the raiders?"


class Dataset:
    """Rows as PyTorch's map-style datasets have them."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return ({**ONE, "id": 1}, {**TWO, "id": 2})[index]


FORMS = {
    "by name": lambda nlp, _: nlp(question=WHO, context=CONTEXT),
    "by position": lambda nlp, _: nlp(WHO, CONTEXT),
    "a dict": lambda nlp, _: nlp(ONE),
    "a list of dicts": lambda nlp, _: nlp([ONE, TWO]),
    "a list of one dict": lambda nlp, _: nlp([ONE]),
    "a tuple of dicts": lambda nlp, _: nlp((ONE, TWO)),
    "several dicts": lambda nlp, _: nlp(ONE, TWO),
    "an empty list": lambda nlp, _: nlp([]),
    "many questions, one context": lambda nlp, _: nlp(question=[WHO, KING], context=CONTEXT),
    "one question in a list": lambda nlp, _: nlp(question=[WHO], context=CONTEXT),
    "no question in a list": lambda nlp, _: nlp(question=[], context=CONTEXT),
    "many questions, many contexts": lambda nlp, _: nlp(question=[WHO, KING], context=[CONTEXT, CONTEXT]),
    "a dict of lists": lambda nlp, _: nlp({"question": [WHO, KING], "context": [CONTEXT, CONTEXT]}),
    "a dict of lists of one": lambda nlp, _: nlp({"question": [WHO], "context": [CONTEXT]}),
    "a list of an example object": lambda nlp, example: nlp([example(WHO, CONTEXT)]),
    "a list of example objects": lambda nlp, example: nlp([example(WHO, CONTEXT), example(KING, CONTEXT)]),
    "data": lambda nlp, _: nlp(data=[ONE, TWO]),
    "X": lambda nlp, _: nlp(X=ONE),
    "a generator": lambda nlp, _: list(nlp(row for row in ({**ONE, "id": 1}, TWO))),
    "a generator of one": lambda nlp, _: list(nlp(row for row in (ONE,))),
    "a generator by name": lambda nlp, _: list(nlp(data=(row for row in (ONE, TWO)))),
    "a generator of example objects": lambda nlp, example: list(nlp(example(*q) for q in ((WHO, CONTEXT),))),
    "top_k": lambda nlp, _: nlp(question=WHO, context=CONTEXT, top_k=3),
    "top_k of many": lambda nlp, _: nlp(question=[WHO, KING], context=CONTEXT, top_k=2),
    "top_k of which one is left": lambda nlp, _: nlp(question=WHO, context="Rollo", top_k=1),
    "top_k beyond what there is": lambda nlp, _: nlp(question=WHO, context="under Rollo", top_k=30),
    "topk": lambda nlp, _: nlp(question=WHO, context=CONTEXT, topk=2),
    "topk beside top_k": lambda nlp, _: nlp(question=WHO, context=CONTEXT, topk=2, top_k=1),
    "None is no parameter": lambda nlp, _: nlp(question=WHO, context=CONTEXT, top_k=None, doc_stride=None),
    "max_answer_len": lambda nlp, _: nlp(question=WHO, context=CONTEXT, max_answer_len=2, top_k=4),
    "align_to_words": lambda nlp, _: nlp(question=KING, context=CONTEXT, align_to_words=False, top_k=4),
    "handle_impossible_answer": lambda nlp, _: nlp(
        question="What did they eat?", context=CONTEXT, handle_impossible_answer=True, top_k=2
    ),
    "max_seq_len and doc_stride": lambda nlp, _: nlp(
        question=WHO, context=CONTEXT * 4, max_seq_len=48, doc_stride=12, top_k=3
    ),
    "max_seq_len alone": lambda nlp, _: nlp(question=WHO, context=CONTEXT * 6, max_seq_len=64),
    "max_question_len cuts nothing": lambda nlp, _: nlp(question=LONG, context=CONTEXT, max_question_len=5),
    "a long question": lambda nlp, _: nlp(question=LONG, context=CONTEXT),
    "padding": lambda nlp, _: nlp(question=WHO, context=CONTEXT, padding="max_length"),
    "batch_size": lambda nlp, _: nlp(question=[WHO, KING], context=CONTEXT, batch_size=2),
    "num_workers": lambda nlp, _: nlp(question=[WHO, KING], context=CONTEXT, num_workers=0),
    "a blank context": lambda nlp, _: nlp(question=WHO, context="  "),
    "a blank context, top_k": lambda nlp, _: nlp(question=WHO, context=" \n", top_k=3),
    "a blank context, impossible": lambda nlp, _: nlp(
        question=WHO, context=" ", handle_impossible_answer=True
    ),
    "a blank context, both": lambda nlp, _: nlp(
        question=WHO, context=" ", handle_impossible_answer=True, top_k=5
    ),
}

ERRORS = {
    "nothing": lambda nlp: nlp(),
    "a question alone": lambda nlp: nlp(question=WHO),
    "a key is missing": lambda nlp: nlp({"question": WHO}),
    "a key is missing in a list": lambda nlp: nlp([ONE, {"context": CONTEXT}]),
    "a key is missing in a generator": lambda nlp: list(nlp(row for row in ({"question": WHO},))),
    "None": lambda nlp: nlp({"question": WHO, "context": None}),
    "an empty question": lambda nlp: nlp(question="", context=CONTEXT),
    "an empty context": lambda nlp: nlp(question=WHO, context=""),
    "an empty context in a list": lambda nlp: nlp([ONE, {"question": WHO, "context": ""}]),
    "unequal lists": lambda nlp: nlp(question=[WHO, KING], context=[CONTEXT]),
    "a list of contexts for one question": lambda nlp: nlp(question=WHO, context=[CONTEXT]),
    "a tuple of questions": lambda nlp: nlp(question=(WHO, KING), context=CONTEXT),
    "a number": lambda nlp: nlp(3),
    "a list of numbers": lambda nlp: nlp([3]),
    "a string alone": lambda nlp: nlp(WHO),
    "top_k 0": lambda nlp: nlp(**ONE, top_k=0),
    "max_answer_len 0": lambda nlp: nlp(**ONE, max_answer_len=0),
    "doc_stride beyond max_seq_len": lambda nlp: nlp(**ONE, doc_stride=400),
    "doc_stride of max_seq_len": lambda nlp: nlp(**ONE, doc_stride=384),
}


@pytest.fixture(scope="module")
def ours(bundled_bundle):
    with pipeline("question-answering", model=bundled_bundle, device=-1) as made:
        yield made


@cache
def theirs():
    import transformers

    return transformers.QuestionAnsweringPipeline(model=reference_model(), tokenizer=reference_tokenizer())


def ask(nlp, call, *more):
    with warnings.catch_warnings():
        # The pipeline of 4.57 announced the end of some forms; numpy 2 minds how it hands over tensors.
        warnings.simplefilter("ignore")
        return call(nlp, *more)


def their_example(question, context):
    from transformers.data import SquadExample

    return SquadExample(None, question, context, None, None, None)


def our_example(question, context):
    return SimpleNamespace(question_text=question, context_text=context)


def assert_same(found, expected):
    """Same shape, texts and offsets; scores within 1e-4, which is what fp32 graphs are held to."""
    assert type(found) is type(expected), (found, expected)
    if isinstance(expected, list):
        assert len(found) == len(expected), (found, expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
        return
    assert list(found) == list(expected) == ["score", "start", "end", "answer"]
    assert {**found, "score": 0} == {**expected, "score": 0}
    assert type(found["score"]) is float
    assert found["score"] == pytest.approx(expected["score"], rel=0, abs=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_a_call_form_gives_what_the_pipeline_gave(golden, ours, form):
    expected = golden.value(form, lambda: ask(theirs(), FORMS[form], their_example), within=1e-5)
    assert_same(ask(ours, FORMS[form], our_example), expected)


@pytest.mark.parametrize("error", ERRORS)
def test_what_the_pipeline_refused_is_refused(golden, ours, error):
    def kind():
        with pytest.raises((ValueError, KeyError)) as raised:
            ask(theirs(), ERRORS[error])
        return next(name.__name__ for name in (KeyError, ValueError) if isinstance(raised.value, name))

    expected = {"KeyError": KeyError, "ValueError": ValueError}[golden.value(f"error: {error}", kind)]
    with pytest.raises(expected) as raised:
        ask(ours, ERRORS[error])
    # One of ours, which says how to mend it.
    assert type(raised.value).__module__.startswith("fastspan.")
    assert str(raised.value).endswith(".")
    assert not str(raised.value).startswith("'")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"top_k": 5, "handle_impossible_answer": True},
        {"top_k": 3, "align_to_words": False, "max_answer_len": 40},
        {"top_k": 4, "max_seq_len": 128, "doc_stride": 40, "handle_impossible_answer": True},
    ],
    ids=str,
)
def test_real_questions_have_the_pipelines_answers(golden, ours, parameters):
    for texts in (real_pairs(6), long_pairs(3)):
        rows = [{"question": question, "context": context} for question, context in zip(*texts, strict=True)]
        expected = golden.value(
            f"{len(rows)} real questions, {parameters}",
            lambda rows=rows: ask(theirs(), lambda nlp: nlp(rows, **parameters)),
            within=1e-5,
        )
        assert_same(ours(rows, **parameters), expected)

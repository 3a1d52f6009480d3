"""``corrected=True``: each fault of the pipeline of transformers 4.57, kept by default, is mended."""

from __future__ import annotations

import pytest

from fastspan import InputError
from fastspan.adapters.transformers_pipeline import pipeline

CONTEXT = "The Normans were led by Rollo. Rollo swore fealty to King Charles III, and Rollo was baptised."
WHO = "Who led the Normans?"
ONE = {"question": WHO, "context": CONTEXT}
# Windows that overlap by most of their length see each answer several times.
OVERLAPPING = {"question": WHO, "context": CONTEXT * 4, "max_seq_len": 48, "doc_stride": 24}


@pytest.fixture(scope="module")
def nlp(bundled_bundle):
    with pipeline("question-answering", model=bundled_bundle, device=-1) as made:
        yield made


def test_scores_are_probabilities_of_one_distribution(nlp):
    assert nlp(**OVERLAPPING)["score"] > 1
    found = nlp(**OVERLAPPING, corrected=True, top_k=10_000, handle_impossible_answer=True)
    assert len(found) > 100
    assert all(0 <= answer["score"] <= 1 for answer in found)
    assert sum(answer["score"] for answer in found) <= 1 + 1e-9
    assert [a["score"] for a in found] == sorted((a["score"] for a in found), reverse=True)


def test_every_occurrence_is_an_answer_of_its_own(nlp):
    of_old = [a for a in nlp(**ONE, top_k=300) if a["answer"] == "Rollo"]
    found = [a for a in nlp(**ONE, top_k=300, corrected=True) if a["answer"] == "Rollo"]
    assert len(of_old) == 1
    assert sorted(answer["start"] for answer in found) == [24, 31, 75]
    assert all(CONTEXT[a["start"] : a["end"]] == "Rollo" for a in found)


def test_a_larger_top_k_changes_no_answer_before(nlp):
    scores = {nlp(**OVERLAPPING, top_k=k)[0]["score"] for k in (2, 20)}
    assert len(scores) == 2
    few, many = (nlp(**OVERLAPPING, top_k=k, corrected=True) for k in (2, 20))
    assert few == many[:2]
    assert nlp(**OVERLAPPING, corrected=True) == many[0]


def test_top_k_answers_are_found_where_there_are_so_many(nlp):
    repeated = {"question": WHO, "context": "Rollo " * 20, "max_answer_len": 2, "top_k": 30}
    assert len({answer["answer"] for answer in nlp(**repeated)}) < 5
    found = nlp(**repeated, corrected=True)
    assert {answer["answer"] for answer in found} == {"Rollo", "Rollo Rollo"}
    assert len({(answer["start"], answer["end"]) for answer in found}) == 30


def test_top_k_above_one_gives_a_list(nlp):
    assert isinstance(nlp(question=WHO, context="x", top_k=3, align_to_words=False, max_answer_len=1), list)
    assert nlp(question=WHO, context=" ", top_k=3) == {"score": 0.0, "start": 0, "end": 0, "answer": ""}
    assert nlp(question=WHO, context=" ", top_k=3, corrected=True) == []
    assert [a["answer"] for a in nlp(question=WHO, context="Rollo", top_k=3, corrected=True)] == ["Rollo"]
    assert nlp(question=WHO, context=" ", corrected=True) == {
        "score": 0.0,
        "start": 0,
        "end": 0,
        "answer": "",
    }
    assert nlp(question=WHO, context=" ", top_k=2, corrected=True, handle_impossible_answer=True) == [
        {"score": 1.0, "start": 0, "end": 0, "answer": ""}
    ]


@pytest.mark.parametrize(
    "ask", [lambda nlp, **c: nlp([ONE], **c), lambda nlp, **c: nlp(question=[WHO], context=CONTEXT, **c)]
)
def test_a_list_of_one_question_gives_a_list(nlp, ask):
    assert isinstance(ask(nlp), dict)
    (answer,) = ask(nlp, corrected=True)
    assert answer == nlp(**ONE, corrected=True)


def test_max_question_len_cuts_the_question(nlp):
    long = WHO[:-1] + " and eat and drink and sleep" * 20 + "?"
    assert nlp(question=long, context=CONTEXT, max_question_len=5) == nlp(question=long, context=CONTEXT)
    found = nlp(question=long, context=CONTEXT, max_question_len=5, corrected=True)
    assert found == nlp(question=WHO[:-1], context=CONTEXT, corrected=True)
    default = nlp(question=long, context=CONTEXT, corrected=True)
    assert default == nlp(question=long, context=CONTEXT, corrected=True, max_question_len=64)
    assert default != found


def test_a_question_that_is_too_long_says_what_helps(nlp):
    long = "Who " + "really " * 400 + "led them?"
    with pytest.raises(
        InputError, match=r"^question takes .* set corrected=True, max_question_len=\d+ to ask"
    ):
        nlp(question=long, context=CONTEXT)
    assert nlp(question=long, context=CONTEXT, corrected=True)["answer"]


def test_the_constructor_may_correct_every_call(bundled_bundle, nlp):
    with pipeline("question-answering", model=bundled_bundle, device=-1, corrected=True, top_k=2) as made:
        assert made(**ONE) == nlp(**ONE, corrected=True, top_k=2)
        assert made(**ONE, corrected=False) == nlp(**ONE, top_k=2)

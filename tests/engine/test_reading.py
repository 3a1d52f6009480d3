"""One question over many passages: what is ranked, decided and refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastspan import (
    AnswerOptions,
    Closed,
    DeadlineExceeded,
    InputError,
    LoadOptions,
    QuestionAnswerer,
    TooManyWindows,
)
from fastspan.bundle.beside.calibrations import (
    Calibration,
    Confidence,
    NoAnswer,
)
from fastspan.decoding.set_confidence import normalized
from fastspan.loading import load_bundle
from support.bundles.set_curves import FITTED, SETS

QUESTION = "who built the tower"
PASSAGES = [
    "the norse leader rollo built the stone tower by the river",
    "in the year of snow the river was high and the tower fell",
    "rollo built it",
    "",
    "the stone bridge over the river was built by the norse in the year of rain " * 40,
]


@pytest.fixture(scope="module", params=["latency", "throughput"])
def qa(request: pytest.FixtureRequest, tiny_bundle: Path) -> Iterator[QuestionAnswerer]:
    with QuestionAnswerer.load(
        tiny_bundle, variant="fp32", optimize_for=request.param, threads=2
    ) as answerer:
        yield answerer


def calibrated(tiny_bundle: Path, **others: Any) -> QuestionAnswerer:
    loaded = load_bundle(tiny_bundle, None, LoadOptions(variant="fp32", threads=1))
    manifest = replace(loaded.bundle.manifest, **others)
    return QuestionAnswerer(replace(loaded, bundle=replace(loaded.bundle, manifest=manifest)))


# --- What is found. ---


def test_spans_are_ranked_by_how_far_they_exceed_no_answer_in_their_passage(
    qa: QuestionAnswerer,
) -> None:
    reading = qa.read(QUESTION, PASSAGES, top_k=8)
    assert reading.passages == len(PASSAGES)
    assert len(reading.answers) == 8
    assert [found.margin for found in reading.answers] == sorted(found.margin for found in reading.answers)
    alone = [qa.answer(QUESTION, passage, top_k=1) for passage in PASSAGES]
    best = min(alone, key=lambda prediction: prediction.margin)
    first = reading.answers[0]
    assert first.margin == pytest.approx(best.margin, abs=1e-4) == pytest.approx(reading.margin, abs=1e-4)
    assert first.text == best.answers[0].text
    for found in reading.answers:
        passage = PASSAGES[found.passage]
        assert passage[found.start : found.end] == found.text
        begin, stop = found.sentence
        assert begin <= found.start < found.end <= stop
        assert found.null_score == pytest.approx(alone[found.passage].null_score, abs=1e-4)


def test_no_two_spans_overlap_and_all_that_are_asked_for_are_found(qa: QuestionAnswerer) -> None:
    passage = PASSAGES[0]
    for options, whole in ({"n_best": 384, "max_answer_length": 1}, True), ({}, False):
        taken: list[int] = []
        for found in qa.read(QUESTION, [passage], options=AnswerOptions(top_k=100, **options)).answers:
            taken += range(found.start, found.end)
        assert len(set(taken)) == len(taken)
        # Spans of one token each leave no token out.
        assert not whole or {place for place, letter in enumerate(passage) if letter != " "} == set(taken)


def test_five_spans_unless_asked_for_otherwise(qa: QuestionAnswerer) -> None:
    assert len(qa.read(QUESTION, PASSAGES).answers) == 5
    assert len(qa.read(QUESTION, PASSAGES, top_k=2).answers) == 2
    assert len(qa.read(QUESTION, PASSAGES, options=AnswerOptions(top_k=3)).answers) == 3
    few, many = qa.read(QUESTION, PASSAGES, top_k=1), qa.read(QUESTION, PASSAGES, top_k=20)
    assert few.answers == many.answers[:1]


def test_ids_come_back(qa: QuestionAnswerer) -> None:
    given = [("a", PASSAGES[0]), (7, PASSAGES[1]), PASSAGES[2]]
    reading = qa.read(QUESTION, (each for each in given), top_k=50)
    assert {(found.passage, found.id) for found in reading.answers} == {(0, "a"), (1, 7), (2, None)}
    assert reading.to_dict()["answers"][0]["id"] in ("a", 7, None)


def test_passages_that_agree_are_counted(qa: QuestionAnswerer) -> None:
    reading = qa.read(QUESTION, [PASSAGES[0]] * 3)
    assert reading.agreeing == 2
    assert qa.read(QUESTION, PASSAGES[:1]).agreeing == 0


@pytest.mark.parametrize("passages", [[], [""], ["", " \n"]])
def test_of_nothing_there_is_no_answer(qa: QuestionAnswerer, passages: list[str]) -> None:
    reading = qa.read(QUESTION, passages)
    assert (reading.answer, reading.answers, reading.passages) == (None, (), len(passages))
    assert reading.margin == math.inf
    assert json.loads(json.dumps(reading.to_dict(), allow_nan=False))["margin"] is None


def test_the_threshold_decides_over_the_set(qa: QuestionAnswerer) -> None:
    assert qa.read(QUESTION, PASSAGES, no_answer_threshold=math.inf).answer is not None
    assert qa.read(QUESTION, PASSAGES, no_answer_threshold=-math.inf).answer is None
    margin = qa.read(QUESTION, PASSAGES).margin
    assert qa.read(QUESTION, PASSAGES, no_answer_threshold=margin).answer is not None
    assert qa.read(QUESTION, PASSAGES, no_answer_threshold=np.nextafter(margin, -math.inf)).answer is None


def test_the_question_is_tokenized_once(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenized: list[str] = []
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", threads=1) as qa:
        encoder = type(qa.stages.loaded.encoder)
        encode = encoder._encode_texts

        def noted(self: Any, texts: list[str], between: Any) -> Any:
            tokenized.extend(texts)
            return encode(self, texts, between)

        monkeypatch.setattr(encoder, "_encode_texts", noted)
        qa.read(QUESTION, PASSAGES)
    assert sorted(tokenized) == sorted([QUESTION, *PASSAGES])


# --- Many. ---


def test_many_are_read_as_one_by_one(qa: QuestionAnswerer) -> None:
    sets = [(f"{QUESTION} {i}", PASSAGES[: i % 5]) for i in range(40)]
    together = list(qa.read_many(iter(sets), top_k=3))
    assert len(together) == len(sets)
    for found, (question, passages) in zip(together, sets, strict=True):
        alone = qa.read(question, passages, top_k=3)
        assert [(a.passage, a.start, a.end) for a in found.answers] == [
            (a.passage, a.start, a.end) for a in alone.answers
        ]
        if passages:
            assert found.margin == pytest.approx(alone.margin, abs=1e-4)


def test_a_stream_reads_no_further_than_it_must(qa: QuestionAnswerer) -> None:
    asked = 0

    def endless() -> Iterator[tuple[str, list[str]]]:
        nonlocal asked
        while True:
            asked += 1
            yield QUESTION, PASSAGES[:2]

    stream = qa.read_many(endless())
    next(stream)
    assert asked < 40


def test_what_cannot_be_read_is_told_in_its_place(qa: QuestionAnswerer) -> None:
    sets: list[Any] = [
        (QUESTION, PASSAGES),
        ("", PASSAGES),
        (QUESTION, [*PASSAGES, 3]),
        (QUESTION, PASSAGES, [1.0]),
        QUESTION,
        (QUESTION, PASSAGES[:1], None),
    ]
    found = list(qa.read_many(sets, on_error="yield"))
    errors = [each for each in found if isinstance(each, InputError)]
    assert [error.index for error in errors] == [1, 2, 3, 4]
    for error, text in zip(
        errors, ["question is empty", r"passages[5]", "1 retriever_scores but 5", "sets[4]"], strict=True
    ):
        assert text in str(error)
    stream = qa.read_many(sets)
    assert next(stream).passages == 5
    with pytest.raises(InputError, match="question is empty") as caught:
        next(stream)
    assert caught.value.index == 1


# --- What is refused. ---


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        ("one text", "passages must be strings"),
        (5, "passages must be strings"),
        ([None], r"passages\[0\] must be a string, or a pair"),
        (["a", ("x", "y", "z")], r"passages\[1\] must be a string, or a pair"),
        ([(1.5, "text")], r"passages\[0\] has the id 1.5"),
        ([(True, "text")], r"passages\[0\] has the id True"),
        ([("x", b"text")], r"passages\[0\] must hold a string, not bytes"),
    ],
)
def test_unusable_passages_are_named(qa: QuestionAnswerer, passages: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        qa.read(QUESTION, passages)


@pytest.mark.parametrize("scores", ["abc", 3, [1.0], ["1"] * 5, [math.nan] * 5, [math.inf] * 5, [True] * 5])
def test_unusable_retriever_scores_are_named(qa: QuestionAnswerer, scores: Any) -> None:
    with pytest.raises(InputError, match="retriever_scores"):
        qa.read(QUESTION, PASSAGES, retriever_scores=scores)


def test_scores_of_numpy_are_taken(qa: QuestionAnswerer) -> None:
    qa.read(QUESTION, PASSAGES, retriever_scores=np.arange(5, dtype=np.float32))


def test_an_error_names_the_passage(qa: QuestionAnswerer) -> None:
    with pytest.raises(TooManyWindows, match=r"passages\[4\], with its question: context makes"):
        qa.read(QUESTION, PASSAGES, max_length=64, overlap=16, max_windows=3)
    with pytest.raises(TooManyWindows, match=r"3 passages make 3 windows .* max_windows is 2"):
        qa.read(QUESTION, PASSAGES[:3], max_windows=2)
    long = "who built the tower by the river " * 20
    with pytest.raises(InputError, match=r"passages\[0\], with its question: question takes"):
        qa.read(long, PASSAGES, max_length=48, overlap=16)
    with pytest.raises(InputError, match=r"overlap \(64\) must be smaller"):
        qa.read(QUESTION, PASSAGES, max_length=64, overlap=64)


def test_the_pipelines_scores_are_not_compared(qa: QuestionAnswerer) -> None:
    with pytest.raises(InputError, match="cannot be compared between passages"):
        qa.read(QUESTION, PASSAGES, decoding="pipeline")
    with pytest.raises(InputError, match=r"read\(\)"):
        qa.read(QUESTION, PASSAGES, doc_stride=3)  # type: ignore[call-arg]


def test_a_deadline_and_a_closed_answerer(tiny_bundle: Path) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32", threads=1) as qa:
        with pytest.raises(DeadlineExceeded):
            qa.read(QUESTION, PASSAGES, timeout=0.0)
        assert qa.read(QUESTION, PASSAGES, timeout=60.0).passages == 5
    with pytest.raises(Closed):
        qa.read(QUESTION, PASSAGES)


# --- How sure. ---


def test_without_a_calibration_for_sets_there_is_no_confidence(tiny_bundle: Path) -> None:
    confidence = Confidence(
        answered_scale=1.0,
        answered_offset=0.0,
        abstained_scale=-1.0,
        abstained_offset=0.0,
        fitted_on=FITTED,
        ece=0.1,
    )
    qa = calibrated(tiny_bundle, confidence=confidence)
    assert qa.read(QUESTION, PASSAGES).confidence is None
    assert not qa.info().calibrated_for_sets
    assert qa.answer(QUESTION, PASSAGES[0]).confidence is not None


def test_the_calibration_for_sets_gives_threshold_and_confidence(tiny_bundle: Path) -> None:
    qa = calibrated(tiny_bundle, sets=SETS)
    assert qa.info().calibrated_for_sets
    same = [PASSAGES[0], PASSAGES[0], PASSAGES[1]]
    reading = qa.read(QUESTION, same)
    assert reading.answer is not None
    best = reading.answers[0]
    close = math.exp(min(0.0, reading.margin - reading.rival_margin))
    log_odds = 0.1 - 0.5 * best.margin + 0.7 * math.log1p(reading.agreeing) - 2.0 * close
    assert reading.confidence == pytest.approx(1 / (1 + math.exp(-log_odds)))
    none = qa.read(QUESTION, same, no_answer_threshold=-math.inf)
    assert none.confidence == pytest.approx(1 / (1 + math.exp(-(-0.2 + 0.5 * best.margin))))
    with_scores = qa.read(QUESTION, same, retriever_scores=[1.0, 1.0, 5.0])
    place = 1.0 if best.passage == 2 else 0.0
    assert with_scores.confidence == pytest.approx(1 / (1 + math.exp(-(-1.0 + 3.0 * place))))
    assert qa.read(QUESTION, []).confidence == 1.0


def test_a_rival_is_another_text_elsewhere(qa: QuestionAnswerer) -> None:
    reading = qa.read(QUESTION, PASSAGES, top_k=200)
    best = reading.answers[0]
    others = [a for a in reading.answers[1:] if normalized(a.text) != normalized(best.text)]
    # Of the best span's own passage a few spans are looked at, of every other its best.
    elsewhere = min(a.margin for a in others if a.passage != best.passage)
    assert min(a.margin for a in others) <= reading.rival_margin <= elsewhere
    assert qa.read(QUESTION, [PASSAGES[0]] * 2, max_answer_length=1, n_best=1).rival_margin == math.inf
    assert qa.read(QUESTION, []).rival_margin == math.inf


def test_confidence_does_not_depend_on_how_many_spans_are_asked_for(tiny_bundle: Path) -> None:
    qa = calibrated(tiny_bundle, sets=SETS)
    assert len({qa.read(QUESTION, PASSAGES, top_k=k).confidence for k in (1, 2, 5, 40)}) == 1
    assert len({qa.read(QUESTION, PASSAGES, top_k=k).rival_margin for k in (1, 2, 5, 40)}) == 1


# --- Domains. ---


def test_a_call_or_the_load_chooses_a_domain(tiny_bundle: Path, tmp_path: Path) -> None:
    domains = {
        "law": Calibration(no_answer=NoAnswer(threshold=-1e6)),
        "talk": Calibration(no_answer=NoAnswer(threshold=1e6), sets=SETS),
    }
    qa = calibrated(tiny_bundle, domains=domains)
    assert qa.info().domains == ("law", "talk")
    for answer in (
        lambda domain: qa.answer(QUESTION, PASSAGES[0], domain=domain),
        lambda domain: qa.read(QUESTION, PASSAGES, domain=domain),
        lambda domain: next(qa.answer_many([(QUESTION, PASSAGES[0])], domain=domain)),
        lambda domain: next(qa.read_many([(QUESTION, PASSAGES)], domain=domain)),
    ):
        assert answer("law").answer is None
        assert answer("talk").answer is not None
        with pytest.raises(InputError, match="'tax' is no domain of this bundle, which has 'law', 'talk'"):
            answer("tax")


def test_the_domain_of_the_load_serves_where_a_call_names_none(tiny_bundle: Path, tmp_path: Path) -> None:
    writer = pytest.importorskip("fastspan.export.publishing.bundle_writer")
    from fastspan.bundle.folder import Bundle

    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    manifest = Bundle.open(bundle).manifest
    domains = {
        "law": Calibration(no_answer=NoAnswer(threshold=-1e6)),
        "talk": Calibration(no_answer=NoAnswer(threshold=1e6)),
    }
    writer.update_manifest(bundle, replace(manifest, domains=domains))
    with QuestionAnswerer.load(bundle, variant="fp32", threads=1, domain="law") as qa:
        assert qa.info().domain == "law"
        assert qa.info().no_answer_threshold == -1e6
        assert qa.answer(QUESTION, PASSAGES[0]).answer is None
        assert qa.answer(QUESTION, PASSAGES[0], options=AnswerOptions(top_k=2)).answer is None
        assert qa.answer(QUESTION, PASSAGES[0], domain="talk").answer is not None
    with pytest.raises(InputError, match="'tax' is no domain of this bundle"):
        QuestionAnswerer.load(bundle, variant="fp32", threads=1, domain="tax")

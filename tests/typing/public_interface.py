"""The types that a user's type checker sees. Checked, never run; what must be refused is marked so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

import fastspan
from fastspan import (
    Answer,
    AnswerOptions,
    Info,
    InputError,
    LoadOptions,
    PassageAnswer,
    Prediction,
    QuestionAnswerer,
    Reading,
)

assert_type(fastspan.__version__, str)


def loading(options: LoadOptions) -> None:
    assert_type(QuestionAnswerer.load("bundle"), QuestionAnswerer)
    assert_type(QuestionAnswerer.load(Path("bundle"), revision="main", options=options), QuestionAnswerer)
    assert_type(QuestionAnswerer.load("bundle", variant="int8", threads=2), QuestionAnswerer)
    with QuestionAnswerer.load("bundle") as qa:
        assert_type(qa, QuestionAnswerer)
    assert_type(QuestionAnswerer.load("bundle", optimize_for="throughput", profile=False), QuestionAnswerer)
    QuestionAnswerer.load(3)  # type: ignore[arg-type]
    QuestionAnswerer.load("bundle", device="cpu")  # type: ignore[call-arg]
    QuestionAnswerer.load("bundle", threads="2")  # type: ignore[arg-type]
    QuestionAnswerer.load("bundle", optimize_for="speed")  # type: ignore[arg-type]
    QuestionAnswerer.load("bundle", profile="off")  # type: ignore[arg-type]
    LoadOptions("fp32")  # type: ignore[call-arg]
    LoadOptions(optimize_for="speed")  # type: ignore[arg-type]
    options.threads = 2  # type: ignore[misc]


class Mine(QuestionAnswerer):
    """A subclass loads as itself."""


assert_type(Mine.load("bundle"), Mine)


def answering(qa: QuestionAnswerer, options: AnswerOptions) -> None:
    prediction = qa.answer("who", "the context", timeout=0.5, options=options, top_k=3, decoding="pipeline")
    assert_type(prediction, Prediction)
    assert_type(prediction.answer, Answer | None)
    assert_type(prediction.answers, tuple[Answer, ...])
    assert_type(prediction.confidence, float | None)
    assert_type(prediction.null_score, float)
    assert_type(prediction.best_span_score, float)
    assert_type(prediction.margin, float)
    assert_type(prediction.to_dict(), dict[str, Any])
    if prediction.answer is not None:
        assert_type(prediction.answer.text, str)
        assert_type(prediction.answer.start, int)
        assert_type(prediction.answer.end, int)
        assert_type(prediction.answer.score, float)
    str(prediction.answer.text)  # type: ignore[union-attr]
    qa.answer("who", None)  # type: ignore[arg-type]
    qa.answer("who", "x", topk=3)  # type: ignore[call-arg]
    qa.answer("who", "x", top_k="3")  # type: ignore[arg-type]
    qa.answer("who", "x", decoding="best")  # type: ignore[arg-type]
    prediction.confidence = 1.0  # type: ignore[misc]


def answering_many(qa: QuestionAnswerer) -> None:
    pairs = (("who", context) for context in ("one", "two"))
    assert_type(qa.answer_many(pairs, max_answer_length=None), Iterator[Prediction])
    assert_type(qa.answer_many([("q", "c")], on_error="yield"), Iterator[Prediction | InputError])
    assert_type(qa.answer_many([("who", "x")]), Iterator[Prediction])
    assert_type(qa.answer_many([("q", "c")], on_error="yield"), Iterator[Prediction | InputError])
    qa.answer_many(["who", "x"])  # type: ignore[list-item]


def reading(qa: QuestionAnswerer) -> None:
    found = qa.read("who", ["one", ("id", "two"), (3, "three")], retriever_scores=[1, 2.0, 3], timeout=1.0)
    assert_type(found, Reading)
    assert_type(found.answer, PassageAnswer | None)
    assert_type(found.answers, tuple[PassageAnswer, ...])
    assert_type(found.confidence, float | None)
    assert_type(found.margin, float)
    assert_type(found.rival_margin, float)
    assert_type(found.agreeing, int)
    assert_type(found.passages, int)
    assert_type(found.to_dict(), dict[str, Any])
    best = found.answers[0]
    assert_type(best.passage, int)
    assert_type(best.id, str | int | None)
    assert_type(best.sentence, tuple[int, int])
    assert_type(best.margin, float)
    found.marked(["one", ("id", "two")]).to_page("who")
    qa.read("who", (text for text in ("one", "two")), top_k=3, domain="law")
    qa.read("who", [1.5])  # type: ignore[list-item]
    qa.read("who", ["x"], retriever_scores=["high"])  # type: ignore[list-item]
    sets = [("who", ["one", "two"]), ("where", ["three"])]
    assert_type(qa.read_many(sets), Iterator[Reading])
    assert_type(qa.read_many([("who", ["one"], [0.5])], on_error="yield"), Iterator[Reading | InputError])


def evidence(prediction: Prediction, context: str) -> None:
    answer = prediction.answers[0]
    assert_type(answer.sentence(context), tuple[int, int])
    assert_type(answer.utf16(context), tuple[int, int])
    assert_type(prediction.marked(context).to_page("who", "note"), str)


def the_rest(qa: QuestionAnswerer) -> None:
    assert_type(qa.info(), Info)
    assert_type(qa.info().providers, tuple[str, ...])
    assert_type(qa.info().workers, int)
    assert_type(qa.info().profile, str)
    assert_type(qa.info().to_dict(), dict[str, Any])
    qa.close()
    try:
        qa.answer("", "")
    except ValueError as error:
        if isinstance(error, InputError):
            assert_type(error, InputError)

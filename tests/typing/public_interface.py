"""The types that a user's type checker sees. Checked, never run; what must be refused is marked so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

import fastspan
from fastspan import Answer, AnswerOptions, Info, InputError, LoadOptions, Prediction, QuestionAnswerer

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

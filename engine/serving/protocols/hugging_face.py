"""Hugging Face's question-answering protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastspan.errors import InputError
from fastspan.options import AnswerOptions
from fastspan.serving.protocols.request_body import (
    TEXTS,
    Answerer,
    check_keys,
    check_range,
    json_object,
    parse_body,
)

__all__ = ["PIPELINE_NAMES", "answer_as_hugging_face"]


PIPELINE_NAMES = {
    "top_k": "top_k",
    "doc_stride": "overlap",
    "max_answer_len": "max_answer_length",
    "max_seq_len": "max_length",
    "max_question_len": "max_question_length",
    "handle_impossible_answer": "handle_impossible_answer",
    "align_to_words": "align_to_words",
}
"""Names of the pipeline's parameters, and of the options they are. Its ``doc_stride`` is an overlap."""


def answer_as_hugging_face(answerer: Answerer, body: bytes) -> dict[str, Any] | list[dict[str, Any]]:
    """Answer ``{"inputs": {"question": …, "context": …}, "parameters": {…}}`` with ``pipeline`` decoding.

    Parameters that are missing or null have the pipeline's defaults: ``top_k`` 1, ``max_answer_len`` 15,
    ``max_seq_len`` the bundle's window, ``doc_stride`` the smaller of half of that and 128; no question is
    cut.

    Returns:
        ``{"score", "start", "end", "answer"}``: for ``top_k`` 1 one such object, else always a list, best
        first. Where the context holds no span, the object has score 0 and no text, and the list is empty.

    Raises:
        MalformedBodyError: The body is not JSON.
        InputError: It is not such an object, or a text or a parameter is unusable.
        InferenceError: ONNX Runtime failed.
        Closed: The answerer was closed.
    """
    request = json_object(parse_body(body), "the body")
    check_keys(request, "the body", required=("inputs",), optional=("parameters",))
    inputs = json_object(request["inputs"], "inputs")
    check_keys(inputs, "inputs", required=TEXTS)
    parameters = json_object(request.get("parameters") or {}, "parameters")
    check_keys(parameters, "parameters", optional=PIPELINE_NAMES)
    given = {name: value for name, value in parameters.items() if value is not None}
    check_range(given)
    options = {PIPELINE_NAMES[name]: value for name, value in given.items()}
    try:
        chosen = _pipeline_options(answerer.info().max_length, options)
        prediction = answerer.answer(inputs["question"], inputs["context"], options=chosen)
    except InputError as error:
        # Of the same class, which decides on the response's status.
        raise type(error)(_in_pipeline_names(str(error))) from error
    found = [
        {"score": answer.score, "start": answer.start, "end": answer.end, "answer": answer.text}
        for answer in prediction.answers
    ]
    if options.get("top_k", 1) > 1:
        return found
    return found[0] if found else {"score": 0.0, "start": 0, "end": 0, "answer": ""}


def _pipeline_options(window: int, given: Mapping[str, Any]) -> AnswerOptions:
    # The window is checked on its own first: half of what is no number could not be taken.
    base = AnswerOptions(decoding="pipeline", overlap=0, max_length=given.get("max_length", window))
    max_length, _ = base.window
    return base.override({"overlap": min(max_length // 2, 128), **given})


def _in_pipeline_names(message: str) -> str:
    """Say ``doc_stride`` where the engine says ``overlap``, and so on: the caller knows no other names."""
    for theirs, ours in PIPELINE_NAMES.items():
        message = re.sub(rf"\b{ours}\b", theirs, message)
    return message

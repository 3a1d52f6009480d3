"""FastSpan's own protocol: question, context and options in one object."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from fastspan.options import AnswerOptions
from fastspan.serving.protocols.request_body import (
    TEXTS,
    Answerer,
    check_keys,
    check_range,
    json_object,
    parse_body,
)

__all__ = ["answer_natively"]


_OPTIONS = tuple(field.name for field in fields(AnswerOptions))


def answer_natively(answerer: Answerer, body: bytes) -> dict[str, Any]:
    """Answer ``{"question": …, "context": …}``, which may also hold any field of ``AnswerOptions``.

    Returns:
        ``Prediction.to_dict()``, null in place of a number that is not finite: ``best_span_score`` of a
        context without any span.

    Raises:
        MalformedBodyError: The body is not JSON.
        InputError: It is not such an object, or a text or an option is unusable.
        InferenceError: ONNX Runtime failed.
        Closed: The answerer was closed.
    """
    request = json_object(parse_body(body), "the body")
    check_keys(request, "the body", required=TEXTS, optional=_OPTIONS)
    options = {name: value for name, value in request.items() if name not in TEXTS}
    check_range(options)
    return answerer.answer(request["question"], request["context"], **options).to_dict()

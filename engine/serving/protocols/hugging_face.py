"""Hugging Face's question-answering protocol."""

from __future__ import annotations

from typing import Any

from fastspan.decoding.pipeline_parameters import PIPELINE_NAMES, in_pipeline_names, pipeline_options
from fastspan.errors import InputError
from fastspan.serving.protocols.request_body import (
    TEXTS,
    Answerer,
    check_keys,
    check_range,
    json_object,
    parse_body,
)

__all__ = ["answer_as_hugging_face"]


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
        chosen = pipeline_options(answerer.info().max_length, options)
        prediction = answerer.answer(inputs["question"], inputs["context"], options=chosen)
    except InputError as error:
        # Of the same class, which decides on the response's status.
        raise type(error)(in_pipeline_names(str(error))) from error
    found = [
        {"score": answer.score, "start": answer.start, "end": answer.end, "answer": answer.text}
        for answer in prediction.answers
    ]
    if options.get("top_k", 1) > 1:
        return found
    return found[0] if found else {"score": 0.0, "start": 0, "end": 0, "answer": ""}

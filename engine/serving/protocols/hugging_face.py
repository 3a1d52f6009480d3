"""Hugging Face's question-answering protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fastspan.bundle.strict_json import parse
from fastspan.decoding import pipeline_parameters
from fastspan.decoding.pipeline_parameters import PIPELINE_NAMES, in_pipeline_names
from fastspan.errors import InputError
from fastspan.options import AnswerOptions
from fastspan.results import Info, Prediction
from fastspan.serving.protocols.asked import Asked, Incoming, Reply, Times, json_reply
from fastspan.serving.protocols.request_body import TEXTS, check_keys, check_range, json_object, parse_body

__all__ = ["as_pipeline", "ask_as_hugging_face", "pipeline_options"]


def ask_as_hugging_face(incoming: Incoming, info: Info) -> Asked:
    """Read ``{"inputs": {"question": …, "context": …}, "parameters": {…}}``, for ``pipeline`` decoding.

    ``inputs`` may be an array of such objects; then the reply is an array. Parameters may stand in the
    address too, as in ``/?top_k=3``. What is missing or null has the pipeline's default: ``top_k`` 1,
    ``max_answer_len`` 15, ``max_seq_len`` the bundle's window, ``doc_stride`` the smaller of half of that and
    128; no question is cut.

    The reply is ``{"score", "start", "end", "answer"}``: for ``top_k`` 1 one such object, else always a list,
    best first. Where the context holds no span, the object has score 0 and no text, and the list is empty.

    Raises:
        MalformedBodyError: The body is not JSON.
        InputError: It is not such an object, or a parameter is unusable.
    """
    request = json_object(parse_body(incoming.body), "the body")
    check_keys(request, "the body", required=("inputs",), optional=("parameters",))
    many = isinstance(request["inputs"], list)
    inputs = request["inputs"] if many else [request["inputs"]]
    if not inputs:
        raise InputError("inputs may not be an empty array.")
    pairs = [
        _pair(value, f"inputs[{position}]" if many else "inputs") for position, value in enumerate(inputs)
    ]
    parameters = {} if request.get("parameters") is None else request["parameters"]
    asked = _of_query(incoming.query)
    given = json_object(parameters, "parameters")
    if twice := [name for name in asked if name in given]:
        raise InputError(f"{twice[0]} stands both in the address and in parameters: leave one out.")
    options = pipeline_options({**asked, **given}, info)
    return Asked(
        pairs=pairs, options=options, form=partial(_form, options.top_k, many), rename=in_pipeline_names
    )


def pipeline_options(parameters: Mapping[str, Any], info: Info) -> AnswerOptions:
    """Return the options that the pipeline's parameters mean; one that is None counts as missing.

    Raises:
        InputError: A parameter is unknown or unusable; the message has the pipeline's names.
    """
    check_keys(parameters, "parameters", optional=PIPELINE_NAMES)
    given = {name: value for name, value in parameters.items() if value is not None}
    check_range(given)
    changes = {PIPELINE_NAMES[name]: value for name, value in given.items()}
    try:
        return pipeline_parameters.pipeline_options(info.max_length, changes)
    except InputError as error:
        raise InputError(in_pipeline_names(str(error))) from error


def as_pipeline(prediction: Prediction, top_k: int) -> dict[str, Any] | list[dict[str, Any]]:
    """Return a prediction as the pipeline returned it; a list wherever more than one answer was asked for."""
    found = [
        {"score": answer.score, "start": answer.start, "end": answer.end, "answer": answer.text}
        for answer in prediction.answers
    ]
    if top_k > 1:
        return found
    return found[0] if found else {"score": 0.0, "start": 0, "end": 0, "answer": ""}


def _form(top_k: int, many: bool, predictions: Sequence[Prediction], _: Times) -> Reply:
    found = [as_pipeline(prediction, top_k) for prediction in predictions]
    return json_reply(found if many else found[0])


def _pair(value: object, name: str) -> tuple[Any, Any]:
    inputs = json_object(value, name)
    check_keys(inputs, name, required=TEXTS)
    return inputs["question"], inputs["context"]


def _of_query(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Parameters of an address, whose values are read as JSON where they are JSON."""
    found: dict[str, Any] = {}
    for name, text in query:
        if name in found:
            raise InputError(f"{name} stands twice in the address: leave one out.")
        try:
            found[name] = parse(text.encode())
        except ValueError:
            found[name] = text
    return found

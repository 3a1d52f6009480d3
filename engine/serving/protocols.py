"""Bodies of requests to answers and back, as plain functions: nothing here knows of HTTP.

A protocol takes an answerer and the bytes of a request's body, and returns what the response's body says, as
built-in types whose numbers are all finite.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol

from fastspan.config import AnswerOptions, AnswerOverrides
from fastspan.errors import InputError
from fastspan.strict_json import parse
from fastspan.types import Info, Prediction

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "PIPELINE_NAMES",
    "Answerer",
    "BodyProtocol",
    "MalformedBodyError",
    "answer_as_hugging_face",
    "answer_natively",
]


class Answerer(Protocol):
    """What the service needs of a ``QuestionAnswerer``."""

    def info(self) -> Info:
        """As ``QuestionAnswerer.info``."""

    def answer(
        self,
        question: str,
        context: str,
        *,
        options: AnswerOptions | None = None,
        **overrides: Unpack[AnswerOverrides],
    ) -> Prediction:
        """As ``QuestionAnswerer.answer``."""


BodyProtocol = Callable[[Answerer, bytes], Any]
"""From an answerer and a request's body to what the response's body says."""

LARGEST_TOP_K = 100
"""More answers than anyone reads; without a limit, a small request could ask for gigabytes of candidates."""

_LARGEST_NUMBER = 2**31 - 1

_TEXTS = ("question", "context")
_OPTIONS = tuple(field.name for field in fields(AnswerOptions))

PIPELINE_NAMES = {
    "top_k": "top_k",
    "doc_stride": "overlap",
    "max_answer_len": "max_answer_length",
    "max_seq_len": "max_length",
    "handle_impossible_answer": "handle_impossible_answer",
    "align_to_words": "align_to_words",
}
"""Names of the pipeline's parameters, and of the options they are. Its ``doc_stride`` is an overlap."""


class MalformedBodyError(InputError):
    """The body of a request is not one JSON value in UTF-8."""


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
    request = _object(_parse(body), "the body")
    _check_keys(request, "the body", required=_TEXTS, optional=_OPTIONS)
    options = {name: value for name, value in request.items() if name not in _TEXTS}
    _check_range(options)
    return answerer.answer(request["question"], request["context"], **options).to_dict()


def answer_as_hugging_face(answerer: Answerer, body: bytes) -> dict[str, Any] | list[dict[str, Any]]:
    """Answer ``{"inputs": {"question": …, "context": …}, "parameters": {…}}`` with ``pipeline`` decoding.

    Parameters that are missing or null have the pipeline's defaults: ``top_k`` 1, ``max_answer_len`` 15,
    ``max_seq_len`` the bundle's window, ``doc_stride`` the smaller of half of that and 128.

    Returns:
        ``{"score", "start", "end", "answer"}``: for ``top_k`` 1 one such object, else always a list, best
        first. Where the context holds no span, the object has score 0 and no text, and the list is empty.

    Raises:
        MalformedBodyError: The body is not JSON.
        InputError: It is not such an object, or a text or a parameter is unusable.
        InferenceError: ONNX Runtime failed.
        Closed: The answerer was closed.
    """
    request = _object(_parse(body), "the body")
    _check_keys(request, "the body", required=("inputs",), optional=("parameters",))
    inputs = _object(request["inputs"], "inputs")
    _check_keys(inputs, "inputs", required=_TEXTS)
    parameters = _object(request.get("parameters") or {}, "parameters")
    _check_keys(parameters, "parameters", optional=PIPELINE_NAMES)
    given = {name: value for name, value in parameters.items() if value is not None}
    _check_range(given)
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


def _parse(body: bytes) -> object:
    try:
        return parse(body)
    except ValueError as error:
        raise MalformedBodyError(f"The body is not JSON in UTF-8 ({error}).") from error


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        kinds = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
        raise InputError(f"{name} must be a JSON object, not {kinds.get(type(value), 'a number')}.")
    return value


def _check_keys(
    value: Mapping[str, Any], name: str, *, required: Collection[str] = (), optional: Collection[str] = ()
) -> None:
    missing = [key for key in required if key not in value]
    if missing:
        raise InputError(f"{name} lacks {' and '.join(missing)}.")
    known = (*required, *optional)
    unknown = [repr(key) for key in value if key not in known]
    if unknown:
        raise InputError(f"{name} may not hold {', '.join(unknown)}, only {', '.join(known)}.")


def _check_range(options: Mapping[str, Any]) -> None:
    """Refuse numbers that a service had better not compute with; ``AnswerOptions`` checks the rest."""
    for name, value in options.items():
        largest = LARGEST_TOP_K if name == "top_k" else _LARGEST_NUMBER
        if isinstance(value, int) and value > largest:
            raise InputError(f"{name} may be {largest} at most.")
        if isinstance(value, int) and value < -_LARGEST_NUMBER:
            raise InputError(f"{name} may not be less than {-_LARGEST_NUMBER}.")

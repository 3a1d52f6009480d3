"""FastSpan's own protocol: question, context and options in one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from fastspan.errors import InputError
from fastspan.options import AnswerOptions
from fastspan.results import Info, Prediction
from fastspan.serving.protocols.asked import Asked, Incoming, Reply, Times, json_reply
from fastspan.serving.protocols.request_body import TEXTS, check_keys, check_range, json_object, parse_body

__all__ = ["ask_natively"]


_OPTIONS = tuple(field.name for field in fields(AnswerOptions))


def ask_natively(incoming: Incoming, info: Info) -> Asked:
    """Read ``{"question": …, "context": …}``, which may also hold any field of ``AnswerOptions``.

    Either text may be an array: one question over many contexts, one context with many questions, or as many
    of each. With ``"timings": true`` the reply says where the time went.

    The reply is ``Prediction.to_dict()``, null in place of a number that is not finite; of arrays it is
    ``{"predictions": […]}``.

    Raises:
        MalformedBodyError: The body is not JSON.
        InputError: It is not such an object, or an option is unusable.
    """
    request = json_object(parse_body(incoming.body), "the body")
    check_keys(request, "the body", required=TEXTS, optional=(*_OPTIONS, "timings"))
    timings = request.get("timings", False)
    if not isinstance(timings, bool):
        raise InputError("timings must be true or false.")
    options = {name: value for name, value in request.items() if name in _OPTIONS}
    check_range(options)
    question, context = request["question"], request["context"]
    many = isinstance(question, list) or isinstance(context, list)

    def form(predictions: Sequence[Prediction], times: Times) -> Reply:
        found: dict[str, Any] = (
            {"predictions": [prediction.to_dict() for prediction in predictions]}
            if many
            else predictions[0].to_dict()
        )
        return json_reply({**found, "timings_ms": times.milliseconds()} if timings else found)

    pairs = _paired(question, context) if many else [(question, context)]
    return Asked(pairs=pairs, options=AnswerOptions().override(options), form=form)


def _paired(question: object, context: object) -> list[tuple[object, object]]:
    counts = {len(side) for side in (question, context) if isinstance(side, list)}
    if len(counts) > 1:
        raise InputError("question and context must be arrays of equal length, or one of them a string.")
    (count,) = counts
    if count == 0:
        raise InputError("question and context may not be empty arrays.")
    questions = question if isinstance(question, list) else [question] * count
    contexts = context if isinstance(context, list) else [context] * count
    return list(zip(questions, contexts, strict=True))

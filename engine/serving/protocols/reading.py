"""FastSpan's own protocol for one question over many passages: a ``Reading`` of them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from fastspan.bundle.manifest import Manifest
from fastspan.decoding.passages import decode_sets
from fastspan.errors import InputError
from fastspan.options import AnswerOptions
from fastspan.results import Info, Reading
from fastspan.runtime.session import Logits
from fastspan.serving.protocols.asked import Asked, Incoming, Reply, Times, json_reply
from fastspan.serving.protocols.request_body import check_keys, check_range, json_object, parse_body
from fastspan.stages.sets import TOP_K
from fastspan.text.encoder import EncodedPair
from fastspan.text.passages import PassageSet, passage_set

__all__ = ["READ_OPTIONS", "ask_to_read"]

READ_OPTIONS = tuple(
    field.name
    for field in fields(AnswerOptions)
    if field.name not in {"decoding", "align_to_words", "handle_impossible_answer"}
)
"""Options of a reading: the pipeline's scores cannot be compared between passages."""


def ask_to_read(incoming: Incoming, info: Info) -> Asked:
    """Read ``{"question": …, "passages": […], "retriever_scores": […]}`` and options of ``read``.

    A passage is a string, or ``{"id": …, "text": …}``. The reply is ``Reading.to_dict()``.

    Raises:
        MalformedBodyError: The body is not JSON.
        InputError: It is not such an object, or an option is unusable.
    """
    request = json_object(parse_body(incoming.body), "the body")
    check_keys(
        request, "the body", required=("question", "passages"), optional=("retriever_scores", *READ_OPTIONS)
    )
    options = {name: value for name, value in request.items() if name in READ_OPTIONS}
    check_range(options)
    given = request["passages"]
    if not isinstance(given, list):
        raise InputError("passages must be an array of strings, or of objects with id and text.")
    passages = [_passage(value, position) for position, value in enumerate(given)]
    asked = passage_set(request["question"], passages, request.get("retriever_scores"))
    return Asked(
        pairs=[(asked.question, text) for text in asked.texts],
        options=AnswerOptions(top_k=TOP_K).override(options),
        form=_form,
        decode=partial(_decode, asked),
    )


def _passage(value: object, position: int) -> Any:
    if not isinstance(value, dict):
        return value
    check_keys(value, f"passages[{position}]", required=("text",), optional=("id",))
    return value["text"] if value.get("id") is None else (value["id"], value["text"])


def _decode(
    asked: PassageSet,
    pairs: Sequence[EncodedPair],
    starts: Sequence[Sequence[Logits]],
    ends: Sequence[Sequence[Logits]],
    options: AnswerOptions,
    manifest: Manifest,
) -> Sequence[Reading]:
    return decode_sets([asked], pairs, starts, ends, options, manifest.calibration(options.domain))


def _form(readings: Sequence[Reading], _: Times) -> Reply:
    return json_reply(readings[0].to_dict())

"""txtai's protocol of ``POST /extract``: questions over texts that come along.

txtai first chooses the texts that resemble a query. This service has no index: each question reads all the
texts that were sent, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastspan.errors import InputError
from fastspan.results import Info, Prediction
from fastspan.serving.protocols.asked import Asked, Incoming, Reply, Times, json_reply
from fastspan.serving.protocols.hugging_face import pipeline_options
from fastspan.serving.protocols.request_body import check_keys, json_object, parse_body

__all__ = ["ask_as_txtai"]


def ask_as_txtai(incoming: Incoming, info: Info) -> Asked:
    """Read ``{"queue": [{"name", "query", "question", "snippet"}, …], "texts": [str, …]}``.

    The reply is ``[{"name", "answer"}, …]``; with ``snippet`` the answer is the whole text that holds it, and
    null stands where there is none.

    Raises:
        MalformedBodyError: The body is not JSON.
        InputError: It is not such an object, or has no texts.
    """
    request = json_object(parse_body(incoming.body), "the body")
    check_keys(request, "the body", required=("queue",), optional=("texts",))
    queue, texts = request["queue"], request.get("texts")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise InputError("texts must be an array of strings: this service has no index to look in.")
    if not isinstance(queue, list) or not queue:
        raise InputError("queue must be an array of at least one question.")
    asked: list[dict[str, Any]] = []
    for position, value in enumerate(queue):
        item = json_object(value, f"queue[{position}]")
        check_keys(item, f"queue[{position}]", required=("question",), optional=("name", "query", "snippet"))
        asked.append(item)
    context = "\n".join(texts)

    def form(predictions: Sequence[Prediction], _: Times) -> Reply:
        found = []
        for item, prediction in zip(asked, predictions, strict=True):
            best = prediction.answers[0] if prediction.answers else None
            answer = None if best is None else best.text
            if best is not None and item.get("snippet"):
                answer = _holder(texts, best.start)
            found.append({"name": item.get("name"), "answer": answer})
        return json_reply(found)

    return Asked(
        pairs=[(item["question"], context) for item in asked], options=pipeline_options({}, info), form=form
    )


def _holder(texts: Sequence[str], start: int) -> str:
    """The text that holds a place of all of them joined by line feeds."""
    for text in texts:
        if start <= len(text):
            return text
        start -= len(text) + 1
    return texts[-1]

"""What Hugging Face's protocol answers, by way of an answerer alone."""

from __future__ import annotations

import json
from typing import Any

from fastspan import QuestionAnswerer
from fastspan.serving.protocols.asked import Incoming, Times
from fastspan.serving.protocols.hugging_face import ask_as_hugging_face

__all__ = ["answer_as_hugging_face"]


def answer_as_hugging_face(qa: QuestionAnswerer, request: dict[str, Any]) -> Any:
    """Answer a request as JSON has it."""
    asked = ask_as_hugging_face(Incoming(body=json.dumps(request).encode()), qa.info())
    predictions = [qa.answer(*pair, options=asked.options) for pair in asked.pairs]
    return json.loads(asked.form(predictions, Times()).body)

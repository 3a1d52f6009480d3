"""What every platform's function does: questions in Hugging Face's shape to answers, one or many.

Parameters and answers are those of ``fastspan.serving.protocols.hugging_face``; a platform differs in its
envelope alone. Platforms set the largest body themselves; the windows that one question may make are bounded
here as in the service.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastspan.answerer import QuestionAnswerer
from fastspan.bundle.manifest import MANIFEST
from fastspan.errors import BundleError, InputError
from fastspan.serving.protocols.asked import Incoming, Times
from fastspan.serving.protocols.hugging_face import ask_as_hugging_face
from fastspan.serving.protocols.request_body import json_object, parse_body

__all__ = ["MOST_WINDOWS", "Hosted", "find_bundle", "load_hosted"]

MOST_WINDOWS = 1000
"""The most windows that one question and context may make, as in the service."""


@dataclass(frozen=True, slots=True)
class Hosted:
    """A loaded bundle behind a platform's function; safe to call from many threads at once.

    Attributes:
        answerer: The bundle.
    """

    answerer: QuestionAnswerer

    def answer(self, request: object) -> Any:
        """Answer ``{"inputs": …, "parameters": …}``.

        Args:
            request: As JSON has it. ``inputs`` is an object of ``question`` and ``context``, or a list of
                these.

        Returns:
            What Hugging Face's protocol gives for ``inputs``; for a list of these, the list.

        Raises:
            InputError: The request is unusable; the message says what of it.
            InferenceError: ONNX Runtime failed.
        """
        body = json_object(request, "the body")
        if "inputs" not in body:
            raise InputError("the body lacks inputs.")
        if not isinstance(body["inputs"], list):
            return self._one(body["inputs"], body)
        return list(self._each(body["inputs"], body))

    def answer_json(self, body: bytes | str) -> Any:
        """Answer a request's body; see ``answer``.

        Raises:
            MalformedBodyError: It is not one JSON value in UTF-8.
            InputError: The request is unusable.
            InferenceError: ONNX Runtime failed.
        """
        return self.answer(parse_body(body.encode() if isinstance(body, str) else bytes(body)))

    def _each(self, questions: Sequence[object], body: Mapping[str, Any]) -> Iterator[Any]:
        for index, question in enumerate(questions):
            try:
                yield self._one(question, body)
            except InputError as error:
                raise type(error)(f"inputs[{index}]: {error}") from error

    def _one(self, question: object, body: Mapping[str, Any]) -> Any:
        try:
            request = json.dumps({**body, "inputs": question}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"the body must be what JSON can say ({error}).") from error
        asked = ask_as_hugging_face(Incoming(body=request.encode()), self.answerer.info())
        options = asked.options.override({"max_windows": MOST_WINDOWS})
        try:
            predictions = [self.answerer.answer(*pair, options=options) for pair in asked.pairs]
        except InputError as error:
            raise type(error)(asked.rename(str(error))) from error
        return json.loads(asked.form(predictions, Times()).body)


def load_hosted(folder: str | Path) -> Hosted:
    """Load the bundle that lies in a platform's folder, or within it.

    Raises:
        BundleError: There is none, or it is damaged.
    """
    return Hosted(QuestionAnswerer.load(find_bundle(folder), optimize_for="throughput"))


def find_bundle(folder: str | Path) -> Path:
    """Return where the bundle lies: in the folder itself, or in a folder of it, two floors down at most.

    Platforms unpack what they are given into a folder of their own choice.

    Raises:
        BundleError: There is none, or there are several.
    """
    top = Path(folder)
    for pattern in (MANIFEST, f"*/{MANIFEST}", f"*/*/{MANIFEST}"):
        found = sorted(top.glob(pattern))
        if len(found) > 1:
            raise BundleError(
                f"{top} holds several bundles ({found[0].parent}, {found[1].parent} …): leave one there."
            )
        if found:
            return found[0].parent
    raise BundleError(f"{top} holds no bundle (no {MANIFEST}): package it again with `fastspan package`.")

"""A cap on the windows that one request may make, whatever its own options say.

The size of a body does not bound the work: small windows, or a question that fills much of each, make many
times the windows of an ordinary request. The engine counts them from the numbers of tokens, before any is
laid out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastspan.errors import TooManyWindows
from fastspan.options import AnswerOptions, AnswerOverrides
from fastspan.results import Info, Prediction
from fastspan.serving.protocols.request_body import Answerer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LimitedAnswerer"]


class LimitedAnswerer:
    """An answerer that refuses what would make too many windows.

    Args:
        answerer: What answers the rest.
        most_windows: The most windows of one request.
    """

    def __init__(self, answerer: Answerer, most_windows: int) -> None:
        self._answerer = answerer
        self._most = most_windows

    def info(self) -> Info:
        """Say what is loaded, why, and what it runs on."""
        return self._answerer.info()

    def answer(
        self,
        question: str,
        context: str,
        *,
        options: AnswerOptions | None = None,
        **overrides: Unpack[AnswerOverrides],
    ) -> Prediction:
        """Answer one question from one context, as ``QuestionAnswerer.answer`` does.

        Raises:
            TooManyWindows: It makes more windows than allowed; the message says how many.
            InputError: An argument is unusable; the message names it.
            InferenceError: ONNX Runtime failed.
            Closed: The answerer was closed.
        """
        chosen = (options or AnswerOptions()).override(overrides)
        most = self._most if chosen.max_windows is None else min(chosen.max_windows, self._most)
        try:
            return self._answerer.answer(question, context, options=replace(chosen, max_windows=most))
        except TooManyWindows as error:
            raise TooManyWindows(f"{error} The service's own limit is its --max-windows.") from error

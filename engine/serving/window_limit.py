"""A cap on the windows that one request may make, checked before any of them is laid out.

The size of a body does not bound the work: a question that fills nearly the whole window leaves each window a
few context tokens to advance by, so that a megabyte of context makes two hundred thousand windows instead of
a thousand. Here they are counted from the numbers of tokens alone. Where even the most tokens that texts of
their length can have stay below the limit, which is so for nearly every request, nothing is tokenized for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastspan.errors import InputError
from fastspan.options import AnswerOptions, AnswerOverrides
from fastspan.results import Info, Prediction
from fastspan.serving.protocols.request_body import Answerer
from fastspan.text.encoder import Encoder
from fastspan.text.inputs import check_pair

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LimitedAnswerer", "TooManyWindowsError", "window_count"]

# One character becomes 18 under Unicode's longest compatibility decomposition, and a token has one at least.
_MOST_TOKENS_A_CHARACTER = 18
# Special tokens around question and context, and the blank that some tokenizers put before a text.
_MOST_SPECIAL_TOKENS = 8
_ENDLESS = 2**31 - 1


class TooManyWindowsError(InputError):
    """A request makes more windows than the service runs for one."""


class LimitedAnswerer:
    """An answerer that refuses what would make too many windows.

    Args:
        answerer: What answers the rest.
        most_windows: The most windows of one request.

    Raises:
        BundleError: The answerer's bundle has no tokenizer any more.
    """

    def __init__(self, answerer: Answerer, most_windows: int) -> None:
        self._answerer = answerer
        self._most = most_windows
        info = answerer.info()
        self._window = (info.max_length, info.overlap)
        # An encoder of its own: for counting, windows may be longer than the model takes.
        self._encoder = Encoder.from_folder(info.bundle, segment_ids=False, max_positions=_ENDLESS)

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
            TooManyWindowsError: It makes more windows than allowed; the message says how many.
            InputError: An argument is unusable; the message names it.
            InferenceError: ONNX Runtime failed.
            Closed: The answerer was closed.
        """
        chosen = (options or AnswerOptions()).override(overrides).within(*self._window)
        check_pair(question, context)
        if self._may_exceed(question, context, chosen):
            self._check(question, context, chosen)
        return self._answerer.answer(question, context, options=chosen)

    def _may_exceed(self, question: str, context: str, options: AnswerOptions) -> bool:
        """Whether texts of these lengths could make too many windows, whatever the tokenizer."""
        around = _most_tokens(question) + _MOST_SPECIAL_TOKENS
        return window_count(around, _most_tokens(context), options) > self._most

    def _check(self, question: str, context: str, options: AnswerOptions) -> None:
        # One endless window holds both texts, whatever room the question would leave in a real one.
        endless = options.override({"max_length": _ENDLESS, "overlap": 0})
        (pair,) = self._encoder.encode([question], [context], endless)
        (window,) = pair.windows
        around, tokens = len(window.input_ids) - window.count, window.count
        max_length, overlap = options.window
        if not options.truncate_question and around + min(tokens, overlap + 1) > max_length:
            # A question that leaves its context no room is for the answerer to refuse, in its own words.
            return
        found = window_count(around, tokens, options)
        if found > self._most:
            raise TooManyWindowsError(
                f"The context makes {found:,} windows beside this question, and the limit is "
                f"{self._most:,}: shorten the question, split the context, lower overlap, raise max_length, "
                "or start the service with a higher --max-windows."
            )


def window_count(around: int, tokens: int, options: AnswerOptions) -> int:
    """Return how many windows a context is cut into.

    Args:
        around: Tokens of the question and special tokens: what every window repeats. More than fit beside the
            context stand for a question that is cut.
        tokens: Tokens of the context.
        options: ``max_length`` and ``overlap`` are used.
    """
    max_length, overlap = options.window
    room = max(max_length - around, min(tokens, overlap + 1))
    return 1 if tokens <= room else 1 - (room - tokens) // (room - overlap)


def _most_tokens(text: str) -> int:
    """More tokens than a tokenizer makes of a text: one an ASCII character, and 18 of any other."""
    plain = len(text.encode("ascii", "ignore"))
    return plain + _MOST_TOKENS_A_CHARACTER * (len(text) - plain)

"""Questions of wanted lengths, made up, to time a model with."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

from fastspan.options import AnswerOptions
from fastspan.text.encoder import Encoder

__all__ = ["Texts", "questions_of"]


Texts = Sequence[tuple[str, str]]


_QUESTION = "Who was the keeper of the lighthouse?"


_SENTENCE = (
    "In the year when the new road along the coast was opened , the harbour master wrote to the council that "
    "the old lighthouse had been painted again , and that two hundred ships had passed it without harm ."
)


def questions_of(encoder: Encoder, lengths: Sequence[int], max_length: int) -> Texts:
    """Return one pair for each length, each a single window of about so many tokens.

    Args:
        encoder: The bundle's.
        lengths: Tokens wanted, question and special tokens included.
        max_length: Longest window, in tokens.
    """
    options = AnswerOptions(max_length=max_length, overlap=0)

    def tokens(words: int) -> int:
        """The tokens of the pair whose context has so many words, special tokens included."""
        (pair,) = encoder.encode([_QUESTION], [_context(words)], options)
        last = pair.windows[-1]
        return len(last.input_ids) + last.origin

    found = {}
    for length in set(lengths):
        wanted = min(length, max_length)
        # A word has at least one token, so no more words than that many fit.
        words = bisect.bisect_right(range(1, wanted + 1), wanted, key=tokens)
        found[length] = (_QUESTION, _context(max(1, words)))
    return [found[length] for length in lengths]


def _context(words: int) -> str:
    return " ".join(itertools.islice(itertools.cycle(_SENTENCE.split()), words))

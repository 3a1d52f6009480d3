"""A window that is all of its question, decoded as ``decode_squad`` decodes several, for less.

On so few numbers most of numpy's time goes into being called, so they are Python's own.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastspan.decoding.covered_text import covered_characters
from fastspan.decoding.top_spans import check_finite
from fastspan.options import AnswerOptions
from fastspan.results import Answer
from fastspan.text.encoder import EncodedPair, Window

__all__ = ["decode_window"]

Scores = NDArray[np.float32]


def decode_window(
    pair: EncodedPair, starts: Scores, ends: Scores, options: AnswerOptions
) -> tuple[float, tuple[Answer, ...]]:
    """Decode a lone window: null score and answers as ``decode_squad`` finds them over several.

    Args:
        pair: A question with one window.
        starts: Its start logits. *Shape:* ``(length,)``, float32.
        ends: The same for the ends.
        options: As for ``decode_squad``.

    Raises:
        InferenceError: A logit is NaN or +inf.
    """
    (window,) = pair.windows
    of_start, of_end = starts.tolist(), ends.tolist()
    firsts = _best_of_context(starts, of_start, window, options.n_best)
    lasts = _best_of_context(ends, of_end, window, options.n_best)
    null_score = _rounded(of_start[0] + of_end[0])
    shift = window.origin - window.first
    if options.top_k == 1:
        best = _best_span(of_start, of_end, firsts, lasts, options.span_tokens)
        if best is None:
            return null_score, ()
        first, last, score = best
        span = covered_characters(pair, first + shift, last + shift)
        if span is not None:
            return null_score, (Answer(pair.context[span[0] : span[1]], *span, score),)
        # The best span covers no characters: the next ones may.
    found: dict[tuple[int, int], Answer] = {}
    for first, last, score in _ranked_spans(of_start, of_end, firsts, lasts, options.span_tokens):
        span = covered_characters(pair, first + shift, last + shift)
        if span is not None and span not in found:
            found[span] = Answer(pair.context[slice(*span)], *span, score)
            if len(found) == options.top_k:
                break
    return null_score, tuple(found.values())


def _best_of_context(logits: Scores, values: Sequence[float], window: Window, n_best: int) -> list[int]:
    """Return which of the ``n_best`` highest logits are the context's, best first."""
    order = (-logits).argsort(kind="stable").tolist()
    # What is no number is sorted behind everything.
    check_finite(values[order[-1]])
    check_finite(values[order[0]])
    first, behind = window.first, window.first + window.count
    return [place for place in order[:n_best] if first <= place < behind]


def _rounded(score: float) -> float:
    """The sum of two float32 as a float32: rounded twice it is the same as rounded once."""
    return array("f", (score,))[0]


def _best_span(
    starts: Sequence[float], ends: Sequence[float], firsts: Sequence[int], lasts: Sequence[int], longest: int
) -> tuple[int, int, float] | None:
    """Return the first of ``_ranked_spans``, having looked at few others; None where there is none."""
    best = (-1, -1, -math.inf)
    for first in firsts if lasts else ():
        # Logits only fall from here on, and so do their rounded sums.
        if _rounded(starts[first] + ends[lasts[0]]) < best[2]:
            break
        for last in lasts:
            score = _rounded(starts[first] + ends[last])
            if score < best[2]:
                break
            if first <= last < first + longest and (score > best[2] or (first, last) < best[:2]):
                best = (first, last, score)
    return best if best[0] >= 0 else None


def _ranked_spans(
    starts: Sequence[float], ends: Sequence[float], firsts: Sequence[int], lasts: Sequence[int], longest: int
) -> list[tuple[int, int, float]]:
    """Return every span, best first; of equal ones that which starts first, then that which ends first."""
    spans = [(i, j) for i in sorted(firsts) for j in sorted(lasts) if i <= j < i + longest]
    scores = array("f", [starts[i] + ends[j] for i, j in spans])
    order = sorted(range(len(spans)), key=lambda place: -scores[place])
    return [(*spans[place], scores[place]) for place in order if scores[place] > -math.inf]

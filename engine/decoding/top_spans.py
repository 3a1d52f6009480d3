"""Scores of tokens to the best spans: exact, vectorized over windows, and never a table of all pairs.

A span's end lies within ``max_answer_length`` tokens of its start. So the best score of a start is its own
plus the maximum of the end scores in that band, and a sliding maximum gives that for every start at once.
Spans are ordered by score, descending, then start, then end, ascending. Under this order the ``k`` best spans
lie in the ``k`` rows (starts) that come first by (row maximum descending, start ascending): any other row has
``k`` rows, hence ``k`` spans, before its own best. Only those ``k`` bands are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastspan.errors import InferenceError

__all__ = ["best_positions", "check_finite", "top_products", "top_spans"]

Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]
Indexes = NDArray[np.intp]
Combine = Callable[[Any, Any], Any]

SPANS_AT_ONCE = 2**18
"""Spans that are looked at together. They take some twenty bytes each: windows × k × longest answer of them
would be gigabytes."""


def top_spans(
    start_logits: Scores,
    end_logits: Scores,
    mask: Mask | None,
    k: int,
    max_answer_length: int,
    at_once: int = SPANS_AT_ONCE,
) -> tuple[Indexes, Indexes, Scores]:
    """Return the ``k`` spans of each window with the highest ``start_logit + end_logit``.

    Args:
        start_logits: *Shape:* ``(windows, length)``, float32; finite or ``-inf``.
        end_logits: The same for the ends.
        mask: Where a span may start and end. *Shape:* ``(windows, length)``, bool. None: wherever its logit
            is above ``-inf``.
        k: How many spans to return per window, at least 1.
        max_answer_length: Longest span, in tokens, at least 1.
        at_once: About how many spans are looked at together.

    Returns:
        First tokens, last tokens (inclusive) and scores, best first, ties by start, then by end. *Shape:*
        ``(windows, k)`` each. Where a window has fewer spans, the rest is -1, -1 and ``-inf``; a span whose
        score is ``-inf`` counts as none.
    """
    nothing = np.float32(-np.inf)
    starts = start_logits if mask is None else np.where(mask, start_logits, nothing)
    ends = end_logits if mask is None else np.where(mask, end_logits, nothing)
    with np.errstate(over="ignore"):
        return _top(starts, ends, np.add, nothing, k, max_answer_length, at_once)


def top_products(
    start: Scores, end: Scores, k: int, max_answer_length: int, at_once: int = SPANS_AT_ONCE
) -> tuple[Indexes, Indexes, Scores]:
    """Return the ``k`` spans of each window with the highest ``start * end``.

    Args:
        start: Probabilities, at least 0; 0 forbids a start. *Shape:* ``(windows, length)``, float32.
        end: The same for the ends.
        k: How many spans to return per window, at least 1.
        max_answer_length: Longest span, in tokens, at least 1.
        at_once: About how many spans are looked at together.

    Returns:
        As ``top_spans``; a span whose product is 0 counts as none, and has score 0.
    """
    return _top(start, end, np.multiply, np.float32(0), k, max_answer_length, at_once)


def best_positions(logits: Scores, n: int) -> Mask:
    """Return where the ``n`` highest logits of each window are; of equal ones the first.

    *Shapes:* ``(windows, length)`` both.
    """
    windows, length = logits.shape
    if n >= length:
        return np.ones((windows, length), np.bool_)
    least = np.partition(logits, length - n, axis=1)[:, length - n, None]
    chosen: Mask = logits >= least
    if chosen.sum() > n * windows:
        tied = logits == least
        room = n - (logits > least).sum(axis=1, keepdims=True)
        chosen &= ~tied | (tied.cumsum(axis=1) <= room)
    return chosen


def _top(
    start: Scores,
    end: Scores,
    combine: Combine,
    nothing: np.float32,
    k: int,
    max_answer_length: int,
    spans_at_once: int,
) -> tuple[Indexes, Indexes, Scores]:
    """Search with any ``combine`` that never falls as an operand rises; ``nothing`` is its lowest value."""
    windows, length = start.shape
    band = min(max_answer_length, length)
    at_once = max(1, spans_at_once // max(1, min(k, length) * band))
    if windows > at_once:
        parts = [
            _top(
                start[at : at + at_once],
                end[at : at + at_once],
                combine,
                nothing,
                k,
                max_answer_length,
                spans_at_once,
            )
            for at in range(0, windows, at_once)
        ]
        firsts, lasts, bests = (np.concatenate(part) for part in zip(*parts, strict=True))
        return firsts, lasts, bests
    padded = np.full((windows, length + band - 1), nothing)
    padded[:, :length] = end
    rows = _columns_of_best(combine(start, _sliding_maximum(padded, band)), min(k, length))
    window = np.arange(windows)[:, None]
    bands = padded[window[:, :, None], rows[:, :, None] + np.arange(band)]
    scores = combine(start[window, rows][:, :, None], bands).reshape(windows, rows.shape[1] * band)
    # Rows and ends ascend in the flat order, so that of equal scores the first is the one to take.
    chosen = _columns_of_best(scores, min(k, scores.shape[1]))
    scores = scores[window, chosen]
    if k > 1:
        order = np.argsort(-scores, axis=1, kind="stable")
        chosen, scores = chosen[window, order], scores[window, order]
    starts = rows[window, chosen // band]
    ends = starts + chosen % band
    missing = scores <= nothing
    starts[missing] = ends[missing] = -1
    if (lacking := k - chosen.shape[1]) > 0:
        starts, ends = (np.pad(found, ((0, 0), (0, lacking)), constant_values=-1) for found in (starts, ends))
        scores = np.pad(scores, ((0, 0), (0, lacking)), constant_values=nothing)
    return starts, ends, scores


def _sliding_maximum(values: Scores, width: int) -> Scores:
    """Return the maximum of every ``width`` neighbours, in as many steps as ``width`` has binary digits."""
    covered = 1
    while covered < width:
        shift = min(covered, width - covered)
        values = np.maximum(values[:, :-shift], values[:, shift:])
        covered += shift
    return values


def _columns_of_best(scores: Scores, k: int) -> Indexes:
    """Return the columns of the ``k`` highest scores of each row, ascending; of equal scores the first."""
    columns: Indexes
    columns = scores.argmax(axis=1) if k == 1 else np.nonzero(best_positions(scores, k))[1]
    return columns.reshape(len(scores), k)


def check_finite(highest: float) -> None:
    """Refuse logits whose maximum is NaN or +inf.

    Raises:
        InferenceError: It is.
    """
    if not highest < np.inf:
        raise InferenceError(
            "The model returned a logit that is not a number, or infinite; if it runs in float16, "
            "load the bundle with variant='fp32'."
        )

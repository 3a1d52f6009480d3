"""The best spans of every window by itself, as Haystack's extractive reader takes them.

A window's spans are compared by their raw logits, start + end, and none is too long. Overlapping windows may
name the same span; what to do about that, and how a score becomes a probability, is the caller's choice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fastspan.decoding.top_spans import check_finite, top_spans
from fastspan.results import Answer
from fastspan.text.encoder import EncodedPair
from fastspan.text.graphemes import widen_to_graphemes

__all__ = ["best_apart", "decode_windows"]

Scores = NDArray[np.float32]
T = TypeVar("T")


def decode_windows(
    pairs: Sequence[EncodedPair],
    start_logits: Sequence[Sequence[Scores]],
    end_logits: Sequence[Sequence[Scores]],
    per_window: int,
) -> list[tuple[Answer, ...]]:
    """Return the best spans of each pair's windows, window after window, each window's best first.

    Args:
        pairs: The encoded questions and contexts.
        start_logits: For each pair, for each of its windows, the start logits. *Shape:* ``(length,)``,
            float32, where ``length`` is the window's own.
        end_logits: The same for the ends.
        per_window: How many spans a window gives at most.

    Returns:
        For each pair its spans. A score is a start logit + an end logit. Of tokens that cover no characters
        there is none.

    Raises:
        InferenceError: A logit is NaN or +inf.
    """
    starts, ends = chain.from_iterable(start_logits), chain.from_iterable(end_logits)
    return [tuple(_of_windows(pair, starts, ends, per_window)) for pair in pairs]


def _of_windows(
    pair: EncodedPair, starts: Iterator[Scores], ends: Iterator[Scores], per_window: int
) -> Iterator[Answer]:
    for window in pair.windows:
        start, end = next(starts), next(ends)
        check_finite(start.max())
        check_finite(end.max())
        context = slice(window.first, window.first + window.count)
        if not window.count:
            continue
        # More than all spans there are need not be looked for.
        k = min(per_window, window.count * (window.count + 1) // 2)
        firsts, lasts, scores = top_spans(start[None, context], end[None, context], None, k, window.count)
        for first, last, score in zip(firsts[0].tolist(), lasts[0].tolist(), scores[0].tolist(), strict=True):
            if first < 0:
                break
            begin = pair.token_span(window.origin + first)[0]
            begin, stop = widen_to_graphemes(
                pair.context, begin, max(begin, pair.token_span(window.origin + last)[1])
            )
            if begin < stop:
                yield Answer(pair.context[begin:stop], begin, stop, score)


def best_apart(
    spans: Iterable[tuple[T, Answer]], name: Callable[[T], Hashable], threshold: float | None, top_k: int
) -> list[tuple[T, Answer]]:
    """Return the best spans, without those that overlap better ones of the same text.

    Two spans overlap by the share of the shorter one that lies in the other.

    Args:
        spans: Texts and their spans.
        name: Returns what a text is known by; only spans of one text overlap.
        threshold: Largest share that spans may overlap by; None: any.
        top_k: How many spans to return at most.

    Returns:
        Texts and spans, best first; of equal ones the first goes first.
    """
    kept: list[tuple[T, Answer]] = []
    of_text: dict[Hashable, list[Answer]] = defaultdict(list)
    for text, span in sorted(spans, key=lambda named: -named[1].score):
        if len(kept) == top_k:
            break
        if threshold is None or all(_overlap(span, other) <= threshold for other in of_text[name(text)]):
            kept.append((text, span))
            of_text[name(text)].append(span)
    return kept


def _overlap(one: Answer, other: Answer) -> float:
    shared = min(one.end, other.end) - max(one.start, other.start)
    return max(0, shared) / min(one.end - one.start, other.end - other.start)

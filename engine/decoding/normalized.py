"""Logits of all windows of a question to answers whose scores are probabilities.

All legal spans of all windows, and "no answer", share one softmax over start logit + end logit. So scores sum
to 1 at most, and those of different windows can be compared. As in ``decode_squad``, a span holds context
tokens only, starts at a token that has no more context in another window, and is at most
``max_answer_length`` tokens long, and "no answer" scores the least, over the windows, of the classification
token's logits. Every span is a candidate, whatever ``top_k`` is, so more answers never change the first ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from fastspan.decoding.squad import keep_most_context
from fastspan.decoding.top_spans import check_finite, top_spans
from fastspan.options import AnswerOptions
from fastspan.results import Answer
from fastspan.text.encoder import EncodedPair
from fastspan.text.graphemes import widen_to_graphemes

__all__ = ["decode_normalized"]

Scores = NDArray[np.float32]
Sums = NDArray[np.float64]

_NOTHING = np.float32(-np.inf)


def decode_normalized(
    pairs: Sequence[EncodedPair],
    start_logits: Sequence[Sequence[Scores]],
    end_logits: Sequence[Sequence[Scores]],
    options: AnswerOptions,
) -> list[tuple[Answer, ...]]:
    """Return the best answers of each pair, best first, distinct by where they stand.

    Args:
        pairs: The encoded questions and contexts.
        start_logits: For each pair, for each of its windows, the start logits. *Shape:* ``(length,)``,
            float32, where ``length`` is the window's own.
        end_logits: The same for the ends.
        options: ``top_k``, ``span_tokens``, ``align_to_words`` and ``handle_impossible_answer`` are used.

    Returns:
        At most ``top_k`` answers a pair. A score is the probability of the best span of tokens that widens to
        the answer. With ``handle_impossible_answer``, "no answer" competes as an answer of empty text at
        offset 0. A context without tokens has none.

    Raises:
        InferenceError: A logit is NaN or +inf.
    """
    starts, ends = chain.from_iterable(start_logits), chain.from_iterable(end_logits)
    return [
        _answers(pair, [*islice(starts, len(pair.windows))], [*islice(ends, len(pair.windows))], options)
        for pair in pairs
    ]


def _answers(
    pair: EncodedPair, starts: Sequence[Scores], ends: Sequence[Scores], options: AnswerOptions
) -> tuple[Answer, ...]:
    for logits in chain(starts, ends):
        check_finite(logits.max())
    if not any(window.count for window in pair.windows):
        return ()
    null_score = min(float(start[0] + end[0]) for start, end in zip(starts, ends, strict=True))
    may_start, may_end = _candidates(pair, starts, ends)
    found: list[Answer] = []
    k = options.top_k
    complete = False
    while not complete:
        found, complete = _distinct(pair, may_start, may_end, k, options)
        k *= 4
    total = _log_total(may_start, may_end, null_score, options.span_tokens)
    # What is summed is no less than its largest part, whatever was rounded.
    total = max(total, null_score, found[0].score if found else null_score)
    if options.handle_impossible_answer:
        found.append(Answer("", 0, 0, null_score))
        found.sort(key=lambda answer: -answer.score)
    return tuple(
        Answer(answer.text, answer.start, answer.end, math.exp(answer.score - total))
        for answer in found[: options.top_k]
    )


def _candidates(pair: EncodedPair, starts: Sequence[Scores], ends: Sequence[Scores]) -> tuple[Scores, Scores]:
    """Return the logits, ``-inf`` where no span may start or end. *Shapes:* ``(windows, length)`` both."""
    longest = max(len(window.input_ids) for window in pair.windows)
    may_start, may_end = (np.full((len(pair.windows), longest), _NOTHING) for _ in range(2))
    for row, window in enumerate(pair.windows):
        context = slice(window.first, window.first + window.count)
        may_start[row, context] = starts[row][context]
        may_end[row, context] = ends[row][context]
    if len(pair.windows) > 1:
        owned = np.ones(may_start.shape, np.bool_)
        keep_most_context(pair.windows, owned)
        may_start[~owned] = _NOTHING
    return may_start, may_end


def _distinct(
    pair: EncodedPair, may_start: Scores, may_end: Scores, k: int, options: AnswerOptions
) -> tuple[list[Answer], bool]:
    """Return the best answers among the ``k`` best spans of each window, and whether those were enough."""
    windows, length = may_start.shape
    # One more than any window has: a list of that many is never full.
    most = length * min(options.span_tokens, length) + 1
    k = min(k, most)
    firsts, lasts, scores = top_spans(may_start, may_end, None, k, options.span_tokens)
    first, last = firsts.ravel().tolist(), lasts.ravel().tolist()
    score = scores.ravel().tolist()
    found: dict[tuple[int, int], Answer] = {}
    # Sorting keeps equals in their order.
    for flat in sorted(range(windows * k), key=lambda flat: -score[flat]):
        if first[flat] < 0:
            break
        number, rank = divmod(flat, k)
        shift = pair.windows[number].origin - pair.windows[number].first
        place = _characters(pair, first[flat] + shift, last[flat] + shift, align=options.align_to_words)
        if place is not None and place not in found:
            found[place] = Answer(pair.context[slice(*place)], *place, score[flat])
            if len(found) == options.top_k:
                return list(found.values()), True
        if rank == k - 1:
            return list(found.values()), False
    return list(found.values()), True


def _characters(pair: EncodedPair, first: int, last: int, *, align: bool) -> tuple[int, int] | None:
    """Return the code points that two tokens of the context and all between cover; None: only blanks."""
    if align:
        first, last = _edge_of_word(pair, first, -1), _edge_of_word(pair, last, 1)
    start, end = pair.token_span(first)[0], pair.token_span(last)[1]
    text = pair.context[start:end]
    start += len(text) - len(text.lstrip())
    start, end = widen_to_graphemes(pair.context, start, start + len(text.strip()))
    return (start, end) if start < end else None


def _edge_of_word(pair: EncodedPair, token: int, step: int) -> int:
    """Return the last token, going by ``step``, that belongs to the same word."""
    word = pair.token_word(token)
    tokens = len(pair.context_encoding)
    while word is not None and 0 <= token + step < tokens and pair.token_word(token + step) == word:
        token += step
    return token


def _log_total(may_start: Scores, may_end: Scores, null_score: float, span_tokens: int) -> float:
    """Return the logarithm of the sum of exp(score) over all legal spans and "no answer"."""
    highest = float(may_start.max()) + float(may_end.max())
    if highest == -math.inf:
        return null_score
    start = np.exp(may_start - may_start.max(), dtype=np.float64)
    end = np.exp(may_end - may_end.max(), dtype=np.float64)
    spans = float((start * _band_sums(end, min(span_tokens, end.shape[1]))).sum())
    top = max(highest, null_score)
    total = spans * math.exp(highest - top) + math.exp(null_score - top)
    return top + math.log(total) if total > 0 else -math.inf


def _band_sums(values: Sums, width: int) -> Sums:
    """Return, for every place, the sum of ``width`` values from there on; beyond the end there are none.

    As a sum of stretches whose lengths are powers of two: differences of running sums would cancel.
    """
    sums, stretch = np.zeros_like(values), values
    covered, length = 0, 1
    while covered < width:
        if width & length:
            sums += _moved(stretch, covered)
            covered += length
        stretch = stretch + _moved(stretch, length)
        length *= 2
    return sums


def _moved(values: Sums, by: int) -> Sums:
    """Return the values ``by`` places to the left, zeros behind them."""
    moved = np.zeros_like(values)
    moved[:, : values.shape[1] - by] = values[:, by:]
    return moved

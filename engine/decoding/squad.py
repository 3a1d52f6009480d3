"""Logits of all windows of a question to its ``Prediction``, as BERT's ``run_squad`` decodes SQuAD 2.0.

Per window, a span starts at one of the ``n_best`` best start tokens and ends at one of the ``n_best`` best
end tokens, holds context tokens only, starts at a token that has no more context in another window, and is at
most ``max_answer_length`` tokens long. Its score is start logit + end logit. "No answer" scores the least,
over the windows, of the classification token's start logit + end logit, and wins when it exceeds the best
span by more than the threshold (https://github.com/google-research/bert, ``run_squad.py``).

Where ``run_squad`` joins words with blanks and guesses which part of them the tokens were, the text here is
the slice of the context from the first token's first character to the last token's last, without white space
at its ends, and widened to whole characters as a reader sees them: a tokenizer that drops accents, as BERT's
does, ends its tokens before them, and ``run_squad`` kept them (``fastspan.text.graphemes``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, chain, islice

import numpy as np
from numpy.typing import NDArray

from fastspan.decoding.confidence import Calibration, decision_confidence
from fastspan.decoding.covered_text import covered_characters
from fastspan.decoding.lone_window import decode_window
from fastspan.decoding.top_spans import best_positions, check_finite, top_spans
from fastspan.options import AnswerOptions
from fastspan.results import Answer, Prediction
from fastspan.text.encoder import EncodedPair, Window

__all__ = ["decode_squad", "keep_most_context"]

Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]
Indexes = NDArray[np.intp]

_NOTHING = np.float32(-np.inf)


def decode_squad(
    pairs: Sequence[EncodedPair],
    start_logits: Sequence[Sequence[Scores]],
    end_logits: Sequence[Sequence[Scores]],
    options: AnswerOptions,
    *,
    threshold: float,
    confidence: Calibration | None = None,
) -> list[Prediction]:
    """Decode a batch of questions.

    Args:
        pairs: The encoded questions and contexts.
        start_logits: For each pair, for each of its windows, the start logits. *Shape:* ``(length,)``,
            float32, where ``length`` is the window's own.
        end_logits: The same for the ends.
        options: ``top_k``, ``n_best`` and ``span_tokens`` are used; ``no_answer_threshold`` goes before
            ``threshold`` unless it is None.
        threshold: "No answer" wins when null score − best span score exceeds it.
        confidence: Calibration of the confidence; None: predictions have none.

    Returns:
        One prediction a pair.

    Raises:
        InferenceError: A logit is NaN or +inf.
    """
    if options.no_answer_threshold is not None:
        threshold = options.no_answer_threshold
    if len(pairs) == 1 and len(pairs[0].windows) == 1:
        null, answers = decode_window(pairs[0], start_logits[0][0], end_logits[0][0], options)
        outcomes = [(null, answers)]
    else:
        outcomes = _decode_windows(pairs, start_logits, end_logits, options)
    predictions = []
    for null_score, answers in outcomes:
        best = answers[0].score if answers else -math.inf
        answered = bool(answers) and not null_score - best > threshold
        predictions.append(
            Prediction(
                answer=answers[0] if answered else None,
                answers=answers,
                confidence=None
                if confidence is None
                else decision_confidence(null_score - best, threshold, confidence, answered=answered),
                null_score=null_score,
                best_span_score=best,
            )
        )
    return predictions


def _decode_windows(
    pairs: Sequence[EncodedPair],
    start_logits: Sequence[Sequence[Scores]],
    end_logits: Sequence[Sequence[Scores]],
    options: AnswerOptions,
) -> list[tuple[float, tuple[Answer, ...]]]:
    """Return null score and answers of every pair."""
    logits, candidates = _stack(pairs, start_logits, end_logits, options.n_best)
    null_scores = iter((logits[0, :, 0] + logits[1, :, 0]).tolist())
    return [
        (min(islice(null_scores, len(pair.windows))), answers)
        for pair, answers in zip(pairs, _best_answers(pairs, candidates, options), strict=True)
    ]


def _stack(
    pairs: Sequence[EncodedPair],
    start_logits: Sequence[Sequence[Scores]],
    end_logits: Sequence[Sequence[Scores]],
    n_best: int,
) -> tuple[Scores, Scores]:
    """Return the logits, and the same with ``-inf`` where no span may start or end.

    *Shapes:* ``(2, windows, length)`` both, starts before ends, padded to the longest window with ``-inf``.
    """
    # Starts and ends lie in one array, because on so few numbers most of numpy's time goes into being called.
    windows = [window for pair in pairs for window in pair.windows]
    lengths = [len(window.input_ids) for window in windows]
    longest = max(lengths, default=1)
    logits = np.full((2, len(windows), longest), _NOTHING)
    allowed = np.zeros(logits.shape[1:], np.bool_)
    for table, given in zip(logits, (start_logits, end_logits), strict=True):
        for row, length, scores in zip(table, lengths, chain.from_iterable(given), strict=True):
            row[:length] = scores
    check_finite(logits.max(initial=0))
    for may_answer, window in zip(allowed, windows, strict=True):
        may_answer[window.first : window.first + window.count] = True
    chosen = best_positions(logits.reshape(-1, longest), n_best).reshape(logits.shape)
    chosen &= allowed
    row_number = 0
    for pair in pairs:
        if len(pair.windows) > 1:
            keep_most_context(pair.windows, chosen[0, row_number : row_number + len(pair.windows)])
        row_number += len(pair.windows)
    return logits, np.where(chosen, logits, _NOTHING)


def keep_most_context(windows: Sequence[Window], may_start: Mask) -> None:
    """Forbid a start in every window but the one that shows most context around it; of equals the first.

    A token's context in a window is min(tokens left of it, tokens right of it) + 0.01 · tokens, counting the
    window's context tokens (``_check_is_max_context`` in ``run_squad.py``).
    """
    last = windows[-1]
    most = np.full(last.origin + last.count, -1.0)
    owner = np.zeros(len(most), np.intp)
    for number, window in enumerate(windows):
        stretch = slice(window.origin, window.origin + window.count)
        left = np.arange(window.count)
        context = np.minimum(left, window.count - 1 - left) + 0.01 * window.count
        better = context > most[stretch]
        most[stretch][better] = context[better]
        owner[stretch][better] = number
    for number, window in enumerate(windows):
        owned = owner[window.origin : window.origin + window.count] == number
        may_start[number, window.first : window.first + window.count] &= owned


def _best_answers(
    pairs: Sequence[EncodedPair], candidates: Scores, options: AnswerOptions
) -> list[tuple[Answer, ...]]:
    """Return the ``top_k`` best spans of every pair that differ in where they stand."""
    bounds = [0, *accumulate(len(pair.windows) for pair in pairs)]
    answers: list[tuple[Answer, ...]] = [()] * len(pairs)
    length = candidates.shape[2]
    # One more than any window has: a list of that many is never full.
    most = min(min(options.n_best, length) ** 2, length * min(options.span_tokens, length)) + 1
    k = min(options.top_k, most)
    pending: Sequence[int] = range(len(pairs))
    while pending:
        searched = candidates
        if len(pending) < len(pairs):
            searched = candidates[:, [row for p in pending for row in range(bounds[p], bounds[p + 1])]]
        starts, ends, scores = top_spans(searched[0], searched[1], None, k, options.span_tokens)
        short = []
        row = 0
        for p in pending:
            own = slice(row, row := row + len(pairs[p].windows))
            answers[p], complete = _distinct(pairs[p], starts[own], ends[own], scores[own], options.top_k)
            if not complete:
                short.append(p)
        pending, k = short, min(4 * k, most)
    return answers


def _distinct(
    pair: EncodedPair, starts: Indexes, ends: Indexes, scores: Scores, top_k: int
) -> tuple[tuple[Answer, ...], bool]:
    """Merge the spans of a pair's windows. *Shapes:* ``(windows, k)`` each, best first.

    Returns:
        The best spans, distinct by their offsets, and whether the lists were long enough: tokens that cover
        no characters, or the same ones (the bytes of one character), may have used them up.
    """
    k = starts.shape[1]
    first, last, score = (table.ravel().tolist() for table in (starts, ends, scores))
    found: dict[tuple[int, int], Answer] = {}
    # Sorting keeps equals in their order.
    for flat in sorted(range(len(score)), key=lambda flat: -score[flat]):
        if first[flat] < 0:
            break
        number, rank = divmod(flat, k)
        window = pair.windows[number]
        shift = window.origin - window.first
        span = covered_characters(pair, first[flat] + shift, last[flat] + shift)
        if span is not None and span not in found:
            found[span] = Answer(pair.context[slice(*span)], *span, score[flat])
            if len(found) == top_k:
                break
        if rank == k - 1:
            return tuple(found.values()), False
    return tuple(found.values()), True

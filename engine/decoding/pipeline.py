"""Logits of all windows of a question to what transformers 4.57's question-answering pipeline returned.

Per window, context and classification token go through a softmax, starts and ends apart; a span's score is
the product of two probabilities; the ``2 · top_k + 10`` best spans of each window (``top_k`` without word
alignment) become answers, widened to whole words. Answers whose lower-cased text is the same are merged: the
scores add up and the first offsets stay.

Kept as they were, because callers depend on the figures:

- A score may exceed 1: windows that overlap, or neighbouring spans widened to the same words, add their
  probabilities. Probabilities of different windows are compared although each window's sum to 1.
- Occurrences of one text become one answer, whose offsets are those of the occurrence found first.
- Where a window has fewer spans of positive score than candidates, spans that score 0 fill the list, even
  ones that end before they start; such an answer is empty, or runs from the context's first character.
- Which of several spans of equal score are candidates is left to numpy's sorts, whose order of equals depends
  on the processor. Real logits hardly tie.
- The first answer may depend on ``top_k``: a larger one adds candidates, and with them parts of scores.

Two things differ. The classification token's text, typed by a user inside a question, was taken for a place
where an answer may start, and its offsets in the question for offsets in the context. Such spans are dropped.
And an answer holds whole characters as a reader sees them (``fastspan.text.graphemes``): where the tokenizer
drops accents, the pipeline cut off the last one.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from fastspan.decoding.squad import decode_squad
from fastspan.decoding.top_spans import top_products
from fastspan.options import AnswerOptions
from fastspan.results import Answer, Prediction
from fastspan.text.encoder import EncodedPair, Window
from fastspan.text.graphemes import widen_to_graphemes

__all__ = ["decode_pipeline", "predict_pipeline"]

Scores = NDArray[np.float32]
Candidate = tuple[int, int, float]


def decode_pipeline(
    pairs: Sequence[EncodedPair],
    start_logits: Sequence[Sequence[Scores]],
    end_logits: Sequence[Sequence[Scores]],
    options: AnswerOptions,
) -> list[tuple[Answer, ...]]:
    """Return the answers that the pipeline returned, best first.

    Args:
        pairs: The encoded questions and contexts.
        start_logits: For each pair, for each of its windows, the start logits. *Shape:* ``(length,)``,
            float32, where ``length`` is the window's own.
        end_logits: The same for the ends.
        options: ``top_k``, ``span_tokens``, ``align_to_words`` and ``handle_impossible_answer`` are used.

    Returns:
        At most ``top_k`` answers a pair. With ``handle_impossible_answer``, "no answer" competes as an answer
        of empty text at offset 0. A context without tokens has none.
    """
    start, end, null_scores = _probabilities(pairs, start_logits, end_logits)
    lengths = [len(window.input_ids) for pair in pairs for window in pair.windows]
    wanted = options.top_k * 2 + 10 if options.align_to_words else options.top_k
    candidates = _candidates(start, end, lengths, wanted, options.span_tokens)
    nulls = iter(null_scores)
    found = []
    for pair in pairs:
        count = len(pair.windows)
        found.append(_merge(pair, islice(candidates, count), min(islice(nulls, count)), options))
    return found


def predict_pipeline(
    pairs: Sequence[EncodedPair],
    start_logits: Sequence[Sequence[Scores]],
    end_logits: Sequence[Sequence[Scores]],
    options: AnswerOptions,
) -> list[Prediction]:
    """Return the pipeline's answers as predictions.

    ``answers`` is what ``decode_pipeline`` returns; ``answer`` is its first, or None when that has no text.
    ``null_score`` and ``best_span_score`` are ``decode_squad``'s. There is no ``confidence``: what a bundle's
    calibration was fitted to is whether ``decode_squad``'s answer is right, which may be another span.

    Args:
        pairs: As for ``decode_squad``, like the two next.
        start_logits: Per pair, per window.
        end_logits: Per pair, per window.
        options: As for ``decode_pipeline``; also ``n_best``.

    Raises:
        InferenceError: A logit is NaN or +inf.
    """
    single = replace(options, top_k=1)
    squad = decode_squad(pairs, start_logits, end_logits, single, threshold=0.0)
    found = decode_pipeline(pairs, start_logits, end_logits, options)
    return [
        replace(prediction, answer=answers[0] if answers and answers[0].text else None, answers=answers)
        for prediction, answers in zip(squad, found, strict=True)
    ]


def _probabilities(
    pairs: Sequence[EncodedPair],
    start_logits: Sequence[Sequence[Scores]],
    end_logits: Sequence[Sequence[Scores]],
) -> tuple[Scores, Scores, list[float]]:
    """Return start and end probabilities, 0 where no answer may be, and each window's score of no answer.

    *Shapes:* ``(windows, length)`` twice, padded with 0; as many null scores as windows.
    """
    windows = [(pair.cls_id, window) for pair in pairs for window in pair.windows]
    length = max((len(window.input_ids) for _, window in windows), default=1)
    start, end = (np.zeros((len(windows), length), np.float32) for _ in range(2))
    starts, ends = chain.from_iterable(start_logits), chain.from_iterable(end_logits)
    for row, ((cls_id, window), of_start, of_end) in enumerate(zip(windows, starts, ends, strict=True)):
        may_answer = window.input_ids == cls_id
        may_answer[window.first : window.first + window.count] = True
        start[row, : len(may_answer)] = _softmax(of_start, may_answer)
        end[row, : len(may_answer)] = _softmax(of_end, may_answer)
    null_scores = (start[:, 0] * end[:, 0]).tolist()
    start[:, 0] = end[:, 0] = 0
    return start, end, null_scores


def _softmax(logits: Scores, may_answer: NDArray[np.bool_]) -> Scores:
    """Return probabilities, in the pipeline's own steps so that every bit agrees. *Shape:* ``(length,)``."""
    kept = np.where(may_answer, logits, np.float32(-10000))
    powers: Scores = np.exp(kept - kept.max())
    powers /= powers.sum()
    return powers


def _candidates(
    start: Scores, end: Scores, lengths: Sequence[int], wanted: int, max_answer_length: int
) -> Iterator[list[Candidate]]:
    """Yield for each window its ``wanted`` best spans as (first token, last token, score), best first.

    Where more are wanted than a window has pairs of tokens, they are all its pairs. Those are many, so they
    are listed for one window at a time.
    """
    length = start.shape[1]
    # One score more shows whether the cut falls between equals. Without ties the order is no choice. More
    # than all spans there are need not be looked for: the rest would be zeros, which are ties.
    sought = min(wanted, length * min(max_answer_length, length)) + 1
    starts, ends, scores = top_products(start, end, sought, max_answer_length)
    settled: NDArray[np.bool_]
    settled = scores[:, 0] > 0 if wanted == 1 else np.all(scores[:, :-1] > scores[:, 1:], axis=1)
    for row, tokens in enumerate(lengths):
        found = starts[row, :wanted], ends[row, :wanted], scores[row, :wanted]
        if not settled[row]:
            found = _candidates_of_ties(start[row, :tokens], end[row, :tokens], wanted, max_answer_length)
        yield list(zip(*(part.tolist() for part in found), strict=True))


def _candidates_of_ties(
    start: Scores, end: Scores, wanted: int, max_answer_length: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], Scores]:
    """Choose among equal scores as the pipeline did: by numpy's partition of the table of all pairs."""
    table = np.tril(np.triu(start[:, None] * end), max_answer_length - 1).ravel()
    if wanted == 1:
        chosen = np.array([table.argmax()])
    elif wanted >= len(table):
        chosen = np.argsort(-table)
    else:
        chosen = np.argpartition(-table, wanted)[:wanted]
        chosen = chosen[np.argsort(-table[chosen])]
    return chosen // len(end), chosen % len(end), table[chosen]


def _merge(
    pair: EncodedPair, candidates: Iterable[Sequence[Candidate]], null_score: float, options: AnswerOptions
) -> tuple[Answer, ...]:
    """Turn the candidates of a pair's windows, which are read to their end, into answers, one a text."""
    context = pair.context
    # A window gives hundreds of candidates where top_k is large, and texts are long: what is kept of each are
    # three numbers. Texts are found by their hash, and compared where they stand.
    numbers: dict[int, int] = {}
    starts, ends, scores = array("q"), array("q"), array("d")
    for window, of_window in zip(pair.windows, candidates, strict=True):
        for first, last, score in of_window:
            if not (_is_selectable(first, window) and _is_selectable(last, window)):
                continue
            start, end = _characters(pair, window, first, last, align_to_words=options.align_to_words)
            start, end = widen_to_graphemes(context, start, end)
            text = context[start:end].lower()
            key = hash(text)
            while (number := numbers.setdefault(key, len(scores))) < len(scores):
                if context[starts[number] : ends[number]].lower() == text:
                    scores[number] += score
                    break
                key += 1
            else:
                starts.append(start)
                ends.append(end)
                scores.append(score)
    if not any(window.count for window in pair.windows):
        return ()
    if options.handle_impossible_answer:
        starts.append(0)
        ends.append(0)
        scores.append(null_score)
    # Of equals the first found goes first.
    best = heapq.nsmallest(options.top_k, range(len(scores)), key=lambda number: -scores[number])
    return tuple(
        Answer(context[starts[number] : ends[number]], starts[number], ends[number], scores[number])
        for number in best
    )


def _is_selectable(position: int, window: Window) -> bool:
    return position == 0 or window.first <= position < window.first + window.count


def _characters(
    pair: EncodedPair, window: Window, first: int, last: int, *, align_to_words: bool
) -> tuple[int, int]:
    """Return the code points from position ``first`` to ``last``; the classification token stands at 0."""
    shift = window.origin - window.first
    if align_to_words and first > 0 and last > 0:
        start_word, end_word = pair.token_word(first + shift), pair.token_word(last + shift)
        # A word that the window cuts is widened as far as the window goes.
        lowest, highest = window.origin, window.origin + window.count - 1
        if start_word is not None and end_word is not None:
            begin, stop = first + shift, last + shift
            while begin > lowest and pair.token_word(begin - 1) == start_word:
                begin -= 1
            while stop < highest and pair.token_word(stop + 1) == end_word:
                stop += 1
            return pair.token_span(begin)[0], pair.token_span(stop)[1]
    begin = pair.token_span(first + shift)[0] if first > 0 else 0
    return begin, pair.token_span(last + shift)[1] if last > 0 else 0

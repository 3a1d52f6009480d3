"""Logits of a question's passages to one ``Reading``: spans ranked over all of them, and one decision.

A span is ranked by how far its score exceeds its own passage's null score. Softmax over each passage by
itself would make a passage without an answer as sure as one with it; the null score is what the model says
of exactly that. Clark and Gardner ("Simple and Effective Multi-Paragraph Reading Comprehension", 2018)
compare ways to make scores of passages comparable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastspan.bundle.beside.calibrations import Calibration
from fastspan.decoding.set_confidence import SetFeatures, normalized, set_confidence
from fastspan.decoding.squad import decode_squad
from fastspan.options import AnswerOptions
from fastspan.results import Answer, PassageAnswer, Prediction, Reading
from fastspan.text.encoder import EncodedPair
from fastspan.text.passages import PassageSet
from fastspan.text.sentences import sentence_around

__all__ = ["decode_sets"]

Scores = NDArray[np.float32]

# Spans of each passage that are looked at for each that is wanted: most overlap the passage's best one.
_FEWEST = 4


def decode_sets(
    sets: Sequence[PassageSet],
    pairs: Sequence[EncodedPair],
    starts: Sequence[Sequence[Scores]],
    ends: Sequence[Sequence[Scores]],
    options: AnswerOptions,
    calibration: Calibration,
) -> list[Reading]:
    """Decode all passages of several questions, and decide each question over its passages.

    Args:
        sets: The questions and their passages.
        pairs: Each question with each of its passages, encoded, in turn.
        starts: For each pair, for each of its windows, the start logits. *Shape:* ``(length,)``, float32.
        ends: The same for the ends.
        options: As for ``decode_squad``; ``top_k`` is that of the reading.
        calibration: The threshold and the curves for sets; without those for sets, the threshold of one
            context serves, and there is no confidence.

    Raises:
        InferenceError: A logit is NaN or +inf.
    """
    readings = []
    at = 0
    for asked in sets:
        own = slice(at, at := at + len(asked.texts))
        decoded = _Decoded(pairs[own], starts[own], ends[own], options)
        readings.append(_read(asked, decoded, options, calibration))
    return readings


class _Decoded:
    """The predictions of one set's passages, with as many spans each as are asked for."""

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        starts: Sequence[Sequence[Scores]],
        ends: Sequence[Sequence[Scores]],
        options: AnswerOptions,
    ) -> None:
        self._given = pairs, starts, ends
        self._options = options

    def predictions(self, top_k: int) -> list[Prediction]:
        """One prediction a passage, of at most so many spans each."""
        pairs, starts, ends = self._given
        if not pairs:
            return []
        return decode_squad(pairs, starts, ends, replace(self._options, top_k=top_k), threshold=0.0)


def _read(asked: PassageSet, decoded: _Decoded, options: AnswerOptions, calibration: Calibration) -> Reading:
    wanted = _FEWEST * options.top_k
    while True:
        predictions = decoded.predictions(wanted)
        spans = _ranked(predictions, options.top_k)
        # A list that is full may have held back spans that overlap nothing.
        if len(spans) == options.top_k or all(len(found.answers) < wanted for found in predictions):
            break
        wanted *= 4
    answers = tuple(
        PassageAnswer(
            text=span.text,
            start=span.start,
            end=span.end,
            score=span.score,
            null_score=predictions[passage].null_score,
            passage=passage,
            id=asked.ids[passage],
            sentence=sentence_around(asked.texts[passage], span.start, span.end),
        )
        for passage, span in spans
    )
    sets = calibration.sets
    threshold = options.no_answer_threshold
    if threshold is None:
        threshold = calibration.no_answer.threshold if sets is None else sets.threshold
    margin = answers[0].margin if answers else math.inf
    answered = bool(answers) and not margin > threshold
    rival_margin, agreeing = _rest(answers[0], predictions) if answers else (math.inf, 0)
    reading = Reading(
        answer=answers[0] if answered else None,
        answers=answers,
        confidence=None,
        margin=margin,
        rival_margin=rival_margin,
        agreeing=agreeing,
        passages=len(asked.texts),
    )
    if sets is None:
        return reading
    features = SetFeatures.of(reading, asked.retriever_scores)
    return replace(reading, confidence=set_confidence(features, sets, answered=answered))


def _rest(best: PassageAnswer, predictions: Sequence[Prediction]) -> tuple[float, int]:
    """Return the margin of the best span of other text, and how many other passages say the same.

    It depends on no more than ``_FEWEST`` spans a passage, so not on how many were asked for.
    """
    text = normalized(best.text)
    rival, agreeing = math.inf, 0
    for number, found in enumerate(predictions):
        if number == best.passage:
            spans = [
                span for span in found.answers[:_FEWEST] if span.end <= best.start or best.end <= span.start
            ]
        else:
            spans = list(found.answers[:1])
            agreeing += any(normalized(span.text) == text for span in spans)
        margins = [found.null_score - span.score for span in spans if normalized(span.text) != text]
        rival = min([rival, *margins])
    return rival, agreeing


def _ranked(predictions: Sequence[Prediction], top_k: int) -> list[tuple[int, Answer]]:
    """The best spans of all passages as (passage, span); of two that overlap in one passage the better."""
    every = [
        (found.null_score - span.score, passage, span)
        for passage, found in enumerate(predictions)
        for span in found.answers
    ]
    every.sort(key=lambda one: one[0])
    chosen: list[tuple[int, Answer]] = []
    for _, passage, span in every:
        if any(p == passage and span.start < s.end and s.start < span.end for p, s in chosen):
            continue
        chosen.append((passage, span))
        if len(chosen) == top_k:
            break
    return chosen

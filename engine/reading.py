"""One question over many passages: which may be read together, and what their spans say as a set.

A span is ranked by how far its score exceeds its own passage's null score. Softmax over each passage by
itself would make a passage without an answer as sure as one with it; the null score is what the model says
of exactly that (Clark and Gardner, 2018, compare ways to rank; docs/accuracy.md has the figures).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastspan.bundle.calibrations import Calibration
from fastspan.bundle.manifest import Manifest
from fastspan.decoding.set_confidence import SetFeatures, normalized, set_confidence
from fastspan.decoding.squad import decode_squad
from fastspan.errors import InputError, TooManyWindows
from fastspan.options import AnswerOptions, is_number, shown
from fastspan.results import Answer, PassageAnswer, Prediction, Reading
from fastspan.runtime.session import Logits
from fastspan.runtime.workers import Runs
from fastspan.stage_times import StageClock
from fastspan.stages import Stages
from fastspan.text.encoder import EncodedPair
from fastspan.text.inputs import check_pair
from fastspan.text.sentences import sentence_around

__all__ = [
    "FEWEST",
    "PASSAGES",
    "TOP_K",
    "EncodedSet",
    "GivenSet",
    "Passage",
    "PassageSet",
    "SetRuns",
    "encode_set",
    "encode_sets",
    "finish_sets",
    "passage_set",
    "read_sets",
    "reading_options",
    "unpacked",
]

Passage = str | tuple[str | int, str]
"""A passage as callers give it: its text, or its id and its text."""

GivenSet = tuple[str, Iterable[Passage]] | tuple[str, Iterable[Passage], Iterable[float] | None]
"""A question and its passages as callers give them, perhaps with the retriever's scores."""

TOP_K = 5
"""How many spans a reading holds where nothing else is asked for."""

PASSAGES = 8
"""About so many passages a set has: a chunk of a stream holds so many times fewer sets than pairs."""

FEWEST = 4
"""Spans of each passage that are looked at for each that is wanted: most overlap the passage's best one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageSet:
    """A question and the passages to read for it, checked.

    Attributes:
        question: What is asked.
        texts: The passages.
        ids: What was given as their ids; None where none was.
        retriever_scores: One score a passage, or None.
    """

    question: str
    texts: tuple[str, ...]
    ids: tuple[str | int | None, ...]
    retriever_scores: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """A checked set with each of its passages encoded beside the question.

    Attributes:
        asked: The set.
        pairs: One pair a passage.
    """

    asked: PassageSet
    pairs: list[EncodedPair]


@dataclass(frozen=True, slots=True)
class SetRuns:
    """Sets and the runs that were started for all their windows.

    Attributes:
        sets: The sets.
        runs: The runs of their pairs in turn.
    """

    sets: Sequence[PassageSet]
    runs: Runs

    def cancel(self) -> None:
        """Drop the runs that wait for a thread."""
        self.runs.cancel()


def unpacked(given: object, index: int) -> tuple[object, object, object]:
    """Return question, passages and retriever scores of one set of a list; None where there are no scores.

    Raises:
        InputError: It is no tuple of two or three.
    """
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        size = f" of {len(given)}" if isinstance(given, tuple | list) else ""
        raise InputError(
            f"sets[{index}] must be a tuple of question and passages, and retriever scores perhaps, not a "
            f"{type(given).__name__}{size}.",
            index=index,
        )
    question, passages, *scores = given
    return question, passages, scores[0] if scores else None


def passage_set(
    question: object, passages: object, retriever_scores: object = None, index: int | None = None
) -> PassageSet:
    """Check a question and its passages.

    Args:
        question: Should be a string that is not blank.
        passages: Should be strings, or pairs of an id and a string; any number of them.
        retriever_scores: Should be one finite number a passage, or None.
        index: Position of the set in the caller's list, for the error; None for a lone one.

    Raises:
        InputError: One of them is not; the message names it.
    """
    try:
        check_pair(question, "")
    except InputError as error:
        raise InputError(str(error), index=index) from error
    if isinstance(passages, str) or not isinstance(passages, Iterable):
        raise InputError(
            "passages must be strings, or pairs of an id and a string, in a list or generator, not "
            f"{type(passages).__name__}.",
            index=index,
        )
    texts: list[str] = []
    ids: list[str | int | None] = []
    for number, passage in enumerate(passages):
        name, text = (None, passage) if isinstance(passage, str) else _pair(passage, number, index)
        texts.append(text)
        ids.append(name)
    scores = None
    if retriever_scores is not None:
        scores = _scores(retriever_scores, len(texts), index)
    return PassageSet(question=str(question), texts=tuple(texts), ids=tuple(ids), retriever_scores=scores)


def reading_options(
    stages: Stages, options: AnswerOptions | None, overrides: Mapping[str, Any], call: str
) -> AnswerOptions:
    """Return the options of a reading; see ``Stages.options``.

    Raises:
        InputError: They are unusable, or ask for the pipeline's decoding.
    """
    base = AnswerOptions(top_k=TOP_K) if options is None else options
    chosen = stages.options(base, overrides, call)
    if chosen.decoding != "squad":
        raise InputError(
            f"{call}() decodes as run_squad does: the scores of decoding={chosen.decoding!r} cannot be "
            "compared between passages."
        )
    return chosen


def encode_sets(
    stages: Stages, given: Sequence[object], options: AnswerOptions, position: int
) -> list[EncodedSet]:
    """Check and encode sets of a list.

    Args:
        stages: The bundle's.
        given: Tuples of question and passages, and retriever scores perhaps.
        options: As for ``encode_set``.
        position: Where the first of them stands in the list.

    Raises:
        InputError: One is unusable; its ``index`` tells which.
    """
    return [
        encode_set(stages, passage_set(*unpacked(each, index), index), options, index)
        for index, each in enumerate(given, position)
    ]


def encode_set(
    stages: Stages,
    asked: PassageSet,
    options: AnswerOptions,
    index: int | None = None,
    between: Callable[[], None] | None = None,
) -> EncodedSet:
    """Encode the question with every passage; equal strings, so the question too, are tokenized once.

    Args:
        stages: The bundle's.
        asked: The question and its passages.
        options: As for ``Stages.encode``; ``max_windows`` is the most windows of the whole set.
        index: Position of the set in the caller's list, for the error; None for a lone one.
        between: As for ``Stages.encode``.

    Raises:
        InputError: A text is unusable; the message names it.
        TooManyWindows: The passages make more than ``max_windows``.
    """
    texts = [(asked.question, passage) for passage in asked.texts]
    try:
        pairs = stages.encode(texts, options, 0, None, between)
    except InputError as error:
        if error.index is None:
            raise
        raise _of_passage(stages, asked, options, error, index) from error
    windows = sum(len(pair.windows) for pair in pairs)
    if options.max_windows is not None and windows > options.max_windows:
        raise TooManyWindows(
            f"{len(pairs):,} passages make {windows:,} windows beside their question, and max_windows is "
            f"{options.max_windows:,}: read fewer or shorter passages, lower overlap, or raise max_length or "
            "max_windows.",
            index=index,
        )
    return EncodedSet(asked, pairs)


def finish_sets(sets: SetRuns, options: AnswerOptions, manifest: Manifest) -> list[Reading]:
    """Wait for the runs of some sets, and read them.

    Args:
        sets: The sets and their runs.
        options: As ``reading_options`` returned them.
        manifest: The bundle's, for its calibrations.
    """
    clock = StageClock()
    starts, ends = sets.runs.logits()
    clock.lap("run")
    calibration = manifest.calibration(options.domain)
    readings = read_sets(sets.sets, sets.runs.pairs, starts, ends, options, calibration)
    clock.lap("decode")
    return readings


def read_sets(
    sets: Sequence[PassageSet],
    pairs: Sequence[EncodedPair],
    starts: Sequence[Sequence[Logits]],
    ends: Sequence[Sequence[Logits]],
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
        starts: Sequence[Sequence[Logits]],
        ends: Sequence[Sequence[Logits]],
        options: AnswerOptions,
    ) -> None:
        self._given = pairs, starts, ends
        self._options = options

    def predictions(self, top_k: int) -> list[Prediction]:
        pairs, starts, ends = self._given
        if not pairs:
            return []
        return decode_squad(pairs, starts, ends, replace(self._options, top_k=top_k), threshold=0.0)


def _read(asked: PassageSet, decoded: _Decoded, options: AnswerOptions, calibration: Calibration) -> Reading:
    wanted = FEWEST * options.top_k
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

    It depends on no more than ``FEWEST`` spans a passage, so not on how many were asked for.
    """
    text = normalized(best.text)
    rival, agreeing = math.inf, 0
    for number, found in enumerate(predictions):
        if number == best.passage:
            spans = [
                span for span in found.answers[:FEWEST] if span.end <= best.start or best.end <= span.start
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


def _pair(passage: object, number: int, index: int | None) -> tuple[str | int, str]:
    name = f"passages[{number}]"
    if not isinstance(passage, Sequence) or isinstance(passage, bytes) or len(passage) != 2:
        raise InputError(
            f"{name} must be a string, or a pair of an id and a string, not {shown(passage)}.", index=index
        )
    key, text = passage
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise InputError(f"{name} has the id {shown(key)}; an id is a string or a whole number.", index=index)
    if not isinstance(text, str):
        raise InputError(f"{name} must hold a string, not {type(text).__name__}.", index=index)
    return key, text


def _scores(given: object, passages: int, index: int | None) -> tuple[float, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(
            f"retriever_scores must be numbers, one a passage, not {type(given).__name__}.", index=index
        )
    scores: list[float] = []
    for number, score in enumerate(given):
        # Retrievers give numbers of numpy's, too.
        value = score.item() if hasattr(score, "item") else score
        if not is_number(value) or math.isinf(value):
            raise InputError(
                f"retriever_scores[{number}] must be a finite number, not {shown(score)}.", index=index
            )
        scores.append(float(value))
    if len(scores) != passages:
        raise InputError(
            f"{len(scores)} retriever_scores but {passages} passages; pass as many of each.", index=index
        )
    return tuple(scores)


def _of_passage(
    stages: Stages, asked: PassageSet, options: AnswerOptions, error: InputError, index: int | None
) -> InputError:
    """The same error in the words of a reading: its question is one, and its contexts are passages."""
    number = error.index or 0
    message = str(error)
    try:
        stages.encode([(asked.question, asked.texts[number])], options)
    except InputError as alone:
        message = str(alone)
    return type(error)(f"passages[{number}], with its question: {message}", index=index)

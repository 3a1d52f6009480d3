"""What an answerer returns: plain frozen values, safe to share, pickle and compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastspan.errors import InputError
from fastspan.marked_text import MarkedText, Place
from fastspan.text.sentences import sentence_around

__all__ = ["Answer", "Info", "PassageAnswer", "Prediction", "Reading"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One span of the context.

    Attributes:
        text: The span's characters; always ``context[start:end]``.
        start: Offset of its first character in the context, in code points.
        end: Offset after its last character, in code points.
        score: ``squad`` decoding: start logit + end logit, unbounded, comparable across
            windows and passages. ``pipeline`` decoding: the transformers pipeline's score,
            a product of probabilities (summed over windows that found the same text).
    """

    text: str
    start: int
    end: int
    score: float

    def sentence(self, context: str) -> tuple[int, int]:
        """Return where the sentence begins and ends that the answer stands in.

        Args:
            context: The text that was asked.

        Returns:
            Offsets in code points; ``context[begin:end]`` holds the answer. The rule and its limits are those
            of ``fastspan.text.sentences``.

        Raises:
            InputError: The answer does not stand in ``context``.
        """
        _check_place(self.text, self.start, self.end, context)
        return sentence_around(context, self.start, self.end)

    def utf16(self, context: str) -> tuple[int, int]:
        """Return ``start`` and ``end`` in UTF-16 code units, as JavaScript, Java and C# count.

        Args:
            context: The text that was asked.

        Raises:
            InputError: The answer does not stand in ``context``.
        """
        _check_place(self.text, self.start, self.end, context)
        start = _utf16_length(context[: self.start])
        return start, start + _utf16_length(self.text)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The outcome for one question over one context.

    Attributes:
        answer: The best span, or None when the context does not answer the question.
        answers: The ``top_k`` best spans, distinct, best first. Filled even when ``answer``
            is None, so that a caller can apply a threshold of its own; empty when the
            context holds no span at all.
        confidence: The calibrated probability, in [0, 1], that ``answer`` (or its absence) is right.
            None where the bundle holds no calibration (``fastspan calibrate`` makes one), and with
            ``pipeline`` decoding, whose answers no calibration was fitted to.
        null_score: The score of "no answer": the minimum over windows of the start logit
            plus the end logit of the classification token (BERT's ``run_squad``).
        best_span_score: Start logit plus end logit of the best span; ``-inf`` without one.
    """

    answer: Answer | None
    answers: tuple[Answer, ...]
    confidence: float | None
    null_score: float
    best_span_score: float

    @property
    def margin(self) -> float:
        """``null_score - best_span_score``: what the no-answer threshold is compared with."""
        return self.null_score - self.best_span_score

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as built-in types, ready for ``json.dumps``.

        JSON has no infinity: ``best_span_score`` of a context without any span is None, as is every other
        number that is not finite.
        """
        return _built_in(self)

    def marked(self, context: str) -> MarkedText:
        """Return the context with the answers marked: it shows itself in a notebook, and as a page of HTML.

        Args:
            context: The text that was asked.

        Raises:
            InputError: An answer does not stand in ``context``.
        """
        places = []
        for answer in self.answers:
            _check_place(answer.text, answer.start, answer.end, context)
            places.append(Place(0, answer.start, answer.end))
        return MarkedText((context,), tuple(places), answered=self.answer is not None)


@dataclass(frozen=True, slots=True)
class PassageAnswer:
    """One span of one of several passages.

    Attributes:
        text: The span's characters; always ``passages[passage][start:end]``.
        start: Offset of its first character in its passage, in code points.
        end: Offset after its last character, in code points.
        score: Start logit + end logit, unbounded.
        null_score: The score of "no answer" in the same passage.
        passage: Position of its passage among those given, from 0.
        id: The id that was given with its passage; None where none was.
        sentence: Where the sentence around it begins and ends in its passage, in code points.
    """

    text: str
    start: int
    end: int
    score: float
    null_score: float
    passage: int
    id: str | int | None
    sentence: tuple[int, int]

    @property
    def margin(self) -> float:
        """``null_score - score``: what spans are ranked by, lowest first."""
        return self.null_score - self.score


@dataclass(frozen=True, slots=True)
class Reading:
    """The outcome for one question over any number of passages.

    Attributes:
        answer: The best span, or None when no passage answers the question.
        answers: The ``top_k`` best spans of all passages, best first: those that exceed "no answer" in their
            own passage by most. No two of one passage overlap. Filled even when ``answer`` is None; empty
            when no passage holds a span.
        confidence: The calibrated probability, in [0, 1], that ``answer`` (or its absence) is right for this
            set. None where the bundle has no calibration for sets (``fastspan calibrate --sets`` makes one).
        margin: The ``margin`` of the best span; ``inf`` without one.
        rival_margin: The ``margin`` of the best span that has another text and does not overlap the best
            one; ``inf`` without one.
        agreeing: How many other passages have the same text as their best span, articles, case and
            punctuation aside.
        passages: How many passages were read.
    """

    answer: PassageAnswer | None
    answers: tuple[PassageAnswer, ...]
    confidence: float | None
    margin: float
    rival_margin: float
    agreeing: int
    passages: int

    def to_dict(self) -> dict[str, Any]:
        """Return the reading as built-in types, ready for ``json.dumps``; what is not finite is None."""
        return _built_in(self)

    def marked(self, passages: Sequence[str | tuple[str | int, str]]) -> MarkedText:
        """Return the passages that hold answers, with the answers marked; see ``Prediction.marked``.

        Args:
            passages: The passages as they were read.

        Raises:
            InputError: An answer does not stand in its passage.
        """
        order: dict[int, int] = {}
        texts: list[str] = []
        places = []
        for answer in self.answers:
            given = passages[answer.passage] if answer.passage < len(passages) else ""
            text = given if isinstance(given, str) else given[1]
            _check_place(answer.text, answer.start, answer.end, text)
            number = order.setdefault(answer.passage, len(texts))
            if number == len(texts):
                texts.append(text)
            places.append(Place(number, answer.start, answer.end))
        return MarkedText(tuple(texts), tuple(places), answered=self.answer is not None)


def _built_in(found: Prediction | Reading) -> dict[str, Any]:
    """As ``dataclasses.asdict``, which copies what nobody can change; what is not finite is None."""
    values = {name: getattr(found, name) for name in found.__slots__}
    values["answer"] = None if found.answer is None else _fields(found.answer)
    values["answers"] = tuple([_fields(answer) for answer in found.answers])
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _fields(answer: Answer | PassageAnswer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in answer.__slots__}


def _check_place(answer: str, start: int, end: int, context: str) -> None:
    if not isinstance(context, str):
        raise InputError(f"context must be a string, not {type(context).__name__}.")
    if context[start:end] != answer:
        raise InputError(
            f"The answer does not stand at {start} to {end} of this text: give the text that was asked."
        )


def _utf16_length(text: str) -> int:
    return len(text) + sum(character > "\uffff" for character in text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What an answerer is and runs on.

    Attributes:
        bundle: The bundle's folder.
        name: Its name.
        variant: Which variant runs, and in ``reason`` why.
        reason: A sentence.
        graph: The file of the graph that runs.
        providers: Full names of the execution providers that run it, the first one first.
        threads: Threads that compute.
        workers: Runs at once; each has ``threads`` / ``workers`` of the threads.
        optimize_for: ``"latency"`` or ``"throughput"``.
        profile: Whether what ``fastspan tune`` measured is in use, and why or why not; a sentence.
        max_length: Longest window, in tokens, unless a call says otherwise.
        overlap: Context tokens shared by neighbouring windows, unless a call says otherwise.
        no_answer_threshold: Where "no answer" begins, unless a call says otherwise.
        calibrated: Whether confidences are calibrated.
        calibrated_for_sets: Whether those of ``read`` are.
        domain: Which of the bundle's calibrations serves unless a call says otherwise; None: the general.
        domains: The domains that the bundle has calibrations for.
        onnxruntime: Its version.
        revision: The commit on the hub: that of the bundle where it was loaded from there, else that of the
            checkpoint it was exported from; None where neither came from a hub.
        out_of_memory_retries: How many batches did not fit into memory until now and were halved, halves
            among them.
    """

    bundle: str
    name: str
    variant: str
    reason: str
    graph: str
    providers: tuple[str, ...]
    threads: int
    workers: int
    optimize_for: str
    profile: str
    max_length: int
    overlap: int
    no_answer_threshold: float
    calibrated: bool
    onnxruntime: str
    calibrated_for_sets: bool = False
    domain: str | None = None
    domains: tuple[str, ...] = ()
    revision: str | None = None
    out_of_memory_retries: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as built-in types."""
        return asdict(self)

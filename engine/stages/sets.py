"""One question over many passages: encoded together, run together, read as a set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastspan.bundle.manifest import Manifest
from fastspan.decoding.passages import decode_sets
from fastspan.errors import InputError, TooManyWindows
from fastspan.options import AnswerOptions
from fastspan.results import Reading
from fastspan.runtime.deadline import check_deadline
from fastspan.runtime.workers import Runs, Workers
from fastspan.stage_times import StageClock
from fastspan.stages.pairs import Stages
from fastspan.stages.streaming import ChunkStages
from fastspan.text.encoder import EncodedPair
from fastspan.text.passages import GivenSet, PassageSet, passage_set, unpacked

__all__ = [
    "PASSAGES",
    "TOP_K",
    "EncodedSet",
    "SetRuns",
    "encode_set",
    "encode_sets",
    "finish_sets",
    "read_set",
    "reading_options",
    "set_stages",
]

TOP_K = 5
"""How many spans a reading holds where nothing else is asked for."""

PASSAGES = 8
"""About so many passages a set has: a chunk of a stream holds so many times fewer sets than pairs."""


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


def read_set(
    stages: Stages,
    asked: PassageSet,
    options: AnswerOptions,
    deadline: float | None = None,
    workers: Workers | None = None,
) -> Reading:
    """Read one set, from its texts to its answers.

    Args:
        stages: The bundle's.
        asked: The question and its passages.
        options: As ``reading_options`` returned them.
        deadline: As for ``Stages.start``.
        workers: As for ``Stages.start``.

    Raises:
        InputError: A text is unusable; the message names it.
        DeadlineExceeded: The deadline passed first.
        InferenceError: ONNX Runtime failed.
    """
    between = None if deadline is None else lambda: check_deadline(deadline)
    encoded = encode_set(stages, asked, options, between=between)
    groups, batches = stages.plan(encoded.pairs)
    clock = StageClock()
    logits = list(stages.start(batches, deadline, workers))
    clock.lap("run")
    runs = Runs(encoded.pairs, groups, logits)
    return finish_sets(SetRuns([asked], runs), options, stages.loaded.bundle.manifest)[0]


def set_stages(
    stages: Callable[[], Stages],
    start: Callable[[Sequence[EncodedPair]], Runs],
    options: AnswerOptions,
    manifest: Manifest,
) -> ChunkStages[GivenSet, EncodedSet, SetRuns, Reading]:
    """Return what is done with a chunk of a stream of sets.

    Args:
        stages: Gives the bundle's; asked at each chunk.
        start: Starts the runs of a chunk's pairs.
        options: As ``reading_options`` returned them.
        manifest: The bundle's, for its calibrations.
    """
    return ChunkStages(
        encode=lambda given, position, _: encode_sets(stages(), given, options, position),
        start=lambda encoded: SetRuns(
            [each.asked for each in encoded], start([pair for each in encoded for pair in each.pairs])
        ),
        finish=lambda runs: finish_sets(runs, options, manifest),
    )


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
    readings = decode_sets(sets.sets, sets.runs.pairs, starts, ends, options, calibration)
    clock.lap("decode")
    return readings


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

"""One question over many passages, or many such questions: the story of ``answerer``, for sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, overload

from fastspan.errors import InputError
from fastspan.loaded_model import LoadedModel
from fastspan.options import AnswerOptions, AnswerOverrides
from fastspan.results import Reading
from fastspan.runtime.deadline import check_deadline, deadline_in
from fastspan.runtime.workers import Runs
from fastspan.stage_times import StageClock
from fastspan.stages.sets import PASSAGES, SetRuns, encode_set, encode_sets, finish_sets, reading_options
from fastspan.stages.streaming import ChunkStages, OnError, check_on_error, stream
from fastspan.text.passages import GivenSet, Passage, passage_set

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["PassageReader"]


class PassageReader(LoadedModel):
    """Reads passages with a loaded model."""

    def read(
        self,
        question: str,
        passages: Iterable[Passage],
        *,
        retriever_scores: Iterable[float] | None = None,
        timeout: float | None = None,
        options: AnswerOptions | None = None,
        **overrides: Unpack[AnswerOverrides],
    ) -> Reading:
        """Answer one question from any number of passages, such as a retriever's.

        The passages' windows share batches, and the question is tokenized once. Spans are ranked over all
        passages by how far they exceed "no answer" in their own.

        Args:
            question: What is asked.
            passages: Strings, or pairs of an id and a string; of any number and length. Of no passages, there
                is no answer.
            retriever_scores: One number a passage, higher where the retriever holds it for better. They do
                not change the ranks; a calibration for sets makes the confidence of them, too.
            timeout: Seconds until the call gives up; None: it never does.
            options: How to answer; None: ``top_k`` is 5, the window the bundle's, every other the default.
            **overrides: Single fields of ``AnswerOptions``: ``top_k``, ``max_answer_length``, ``n_best``,
                ``max_length``, ``overlap``, ``max_windows`` (here of all passages together),
                ``max_question_length``, ``no_answer_threshold``, ``truncate_question`` or ``domain``;
                ``decoding``, ``align_to_words`` and ``handle_impossible_answer`` stay as they are, since the
                pipeline's scores cannot be compared between passages.

        Raises:
            InputError: An argument is unusable; the message names it.
            DeadlineExceeded: ``timeout`` passed first.
            InferenceError: ONNX Runtime failed.
            Closed: ``close`` was called before.
        """
        deadline = deadline_in(timeout)
        stages = self.stages
        chosen = reading_options(stages, options, overrides, "read")
        asked = passage_set(question, passages, retriever_scores)
        between = None if deadline is None else lambda: check_deadline(deadline)
        encoded = encode_set(stages, asked, chosen, between=between)
        groups, batches = stages.plan(encoded.pairs)
        clock = StageClock()
        logits = list(stages.start(batches, deadline, self._workers))
        clock.lap("run")
        runs = Runs(encoded.pairs, groups, logits)
        return finish_sets(SetRuns([asked], runs), chosen, self._manifest)[0]

    @overload
    def read_many(
        self,
        sets: Iterable[GivenSet],
        *,
        on_error: Literal["raise"] = "raise",
        options: AnswerOptions | None = None,
        **overrides: Unpack[AnswerOverrides],
    ) -> Iterator[Reading]: ...

    @overload
    def read_many(
        self,
        sets: Iterable[GivenSet],
        *,
        on_error: Literal["yield"],
        options: AnswerOptions | None = None,
        **overrides: Unpack[AnswerOverrides],
    ) -> Iterator[Reading | InputError]: ...

    def read_many(
        self,
        sets: Iterable[GivenSet],
        *,
        on_error: OnError = "raise",
        options: AnswerOptions | None = None,
        **overrides: Unpack[AnswerOverrides],
    ) -> Iterator[Reading] | Iterator[Reading | InputError]:
        """Answer any number of questions from passages of their own, streamed in the order of the input.

        Args:
            sets: Tuples of question and passages, or of question, passages and retriever scores, each as
                ``read`` takes it; a generator of any length is read as readings are taken.
            on_error: What a set that cannot be used does, as for ``answer_many``.
            options: As for ``read``.
            **overrides: As for ``read``: ``top_k``, ``max_answer_length``, ``n_best``, ``max_length``,
                ``overlap``, ``max_windows``, ``max_question_length``, ``no_answer_threshold``,
                ``truncate_question`` or ``domain``.

        Yields:
            One reading a set; with ``on_error="yield"`` an ``InputError`` for one that cannot be used.

        Raises:
            InputError: A set is unusable, which its ``index`` tells, or an option is. Every set before it has
                been answered by then.
            Exception: What ``sets`` raised, if it did; every set before has been answered by then.
            InferenceError: ONNX Runtime failed.
            Closed: ``close`` was called before.
        """
        chosen = reading_options(self.stages, options, overrides, "read_many")
        if not isinstance(sets, Iterable):
            raise InputError(
                "sets must be tuples of question and passages, in a list or generator, "
                f"not {type(sets).__name__}."
            )
        check_on_error(on_error)
        return stream(
            iter(sets),
            ChunkStages(
                encode=lambda given, position, _: encode_sets(self.stages, given, chosen, position),
                start=lambda encoded: SetRuns(
                    [each.asked for each in encoded],
                    self._start([pair for each in encoded for pair in each.pairs]),
                ),
                finish=lambda runs: finish_sets(runs, chosen, self._manifest),
            ),
            chunk=self._chunk // PASSAGES,
            ahead=self._ahead,
            on_error=on_error,
        )

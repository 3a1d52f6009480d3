"""The whole story: text in, windows, batches, logits, spans, answer out.

``stages`` has each step, of pairs and of sets of passages; ``loaded_model`` what an answerer holds meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar, cast, overload

from fastspan.errors import InputError
from fastspan.loaded_model import LoadedModel
from fastspan.options import AnswerOptions, AnswerOverrides
from fastspan.results import Prediction, Reading
from fastspan.runtime.deadline import check_deadline, deadline_in
from fastspan.runtime.session import Logits
from fastspan.runtime.workers import Runs
from fastspan.stage_times import StageClock
from fastspan.stages.pairs import decode
from fastspan.stages.sets import PASSAGES, read_set, reading_options, set_stages
from fastspan.stages.streaming import ChunkStages, Encoded, Given, OnError, Started, check_on_error, stream
from fastspan.text.encoder import EncodedPair
from fastspan.text.passages import GivenSet, Passage, passage_set

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Decode", "QuestionAnswerer"]

T = TypeVar("T")

OfWindows = Sequence[Sequence[Logits]]
Decode = Callable[[Sequence[EncodedPair], OfWindows, OfWindows], Sequence[T]]
"""Makes one result a pair of encoded pairs and, for each of their windows, start and end logits. *Shape:*
``(length,)``, float32, where ``length`` is the window's own."""


class QuestionAnswerer(LoadedModel):
    """Answers questions from text. Made by ``load``; safe to call from many threads at once.

    It works in a forked child, and pickles as the path and options it was loaded with.

    Example:
        >>> with QuestionAnswerer.load("models/exported/minilm-l6-squad2") as qa:  # doctest: +SKIP
        ...     qa.answer("Who wrote it?", "Ada wrote it.").answer.text
        'Ada'
    """

    def answer(
        self,
        question: str,
        context: str,
        *,
        timeout: float | None = None,
        options: AnswerOptions | None = None,
        **overrides: Unpack[AnswerOverrides],
    ) -> Prediction:
        """Answer one question from one context.

        Args:
            question: What is asked.
            context: The text that may hold the answer, of any length; empty gives no answer.
            timeout: Seconds until the call gives up; None: it never does.
            options: How to answer; None: the bundle's window with every other default.
            **overrides: Single fields of ``AnswerOptions``: ``top_k``, ``max_answer_length``, ``n_best``,
                ``max_length``, ``overlap``, ``max_windows``, ``max_question_length``, ``decoding``,
                ``no_answer_threshold``, ``align_to_words``, ``handle_impossible_answer``,
                ``truncate_question`` or ``domain``.

        Raises:
            InputError: An argument is unusable; the message names it.
            DeadlineExceeded: ``timeout`` passed first.
            InferenceError: ONNX Runtime failed.
            Closed: ``close`` was called before.
        """
        deadline = deadline_in(timeout)
        stages = self.stages
        chosen = stages.options(options, overrides, "answer")
        between = None if deadline is None else lambda: check_deadline(deadline)
        pairs = stages.encode([(question, context)], chosen, between=between)
        groups, batches = stages.plan(pairs)
        clock = StageClock()
        logits = list(stages.start(batches, deadline, self._workers))
        clock.lap("run")
        return stages.decode(pairs, *Runs(pairs, groups, logits).logits(), chosen)[0]

    @overload
    def answer_many(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        on_error: Literal["raise"] = "raise",
        options: AnswerOptions | None = None,
        **overrides: Unpack[AnswerOverrides],
    ) -> Iterator[Prediction]: ...

    @overload
    def answer_many(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        on_error: Literal["yield"],
        options: AnswerOptions | None = None,
        **overrides: Unpack[AnswerOverrides],
    ) -> Iterator[Prediction | InputError]: ...

    def answer_many(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        on_error: OnError = "raise",
        options: AnswerOptions | None = None,
        **overrides: Unpack[AnswerOverrides],
    ) -> Iterator[Prediction] | Iterator[Prediction | InputError]:
        """Answer any number of questions, batched inside, streamed in the order of the input.

        Args:
            pairs: Tuples of question and context; a generator of any length is read as answers are taken.
            on_error: What a pair that cannot be used does. ``"raise"``: it ends the stream. ``"yield"``: its
                ``InputError`` is yielded in its place, and every other pair is answered.
            options: How to answer; None: the bundle's window with every other default.
            **overrides: Single fields of ``AnswerOptions``: ``top_k``, ``max_answer_length``, ``n_best``,
                ``max_length``, ``overlap``, ``max_windows``, ``max_question_length``, ``decoding``,
                ``no_answer_threshold``, ``align_to_words``, ``handle_impossible_answer``,
                ``truncate_question`` or ``domain``.

        Yields:
            One prediction a pair; with ``on_error="yield"`` an ``InputError`` for one that cannot be used.

        Raises:
            InputError: A pair is unusable, which its ``index`` tells, or an option is. Every pair before it
                has been answered by then.
            Exception: What ``pairs`` raised, if it did; every pair before has been answered by then.
            InferenceError: ONNX Runtime failed.
            Closed: ``close`` was called before.
        """
        chosen = self.stages.options(options, overrides, "answer_many")
        return self._stream_pairs(pairs, chosen, lambda runs: self._finish(runs, chosen), on_error)

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
        return read_set(stages, asked, chosen, deadline, self._workers)

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
        # The stages are asked for chunk by chunk: a stream that nobody reads on must not hold the model.
        chunks = set_stages(lambda: self.stages, self._start, chosen, self._manifest)
        return self._stream("sets", "question and passages", sets, chunks, self._chunk // PASSAGES, on_error)

    def decode_many(
        self, pairs: Iterable[tuple[str, str]], decode: Decode[T], *, options: AnswerOptions | None = None
    ) -> Iterator[T]:
        """Do as ``answer_many``, with a decoding of the caller's own.

        Args:
            pairs: Tuples of question and context.
            decode: Given a chunk of the pairs, returns one result a pair.
            options: How the pairs are cut into windows; the decoding's own options are the caller's.

        Returns:
            What ``decode`` makes of each pair, in order, as it is taken.

        Raises:
            InputError: A pair is unusable, which its ``index`` tells, or an option is.
            InferenceError: ONNX Runtime failed.
            Closed: ``close`` was called before.
        """
        chosen = self.stages.options(options, {}, "decode_many")

        def finish(runs: Runs) -> Sequence[T]:
            starts, ends = runs.logits()
            return decode(runs.pairs, starts, ends)

        # With "raise" no error stands in the place of a result.
        return cast(Iterator[T], self._stream_pairs(pairs, chosen, finish, "raise"))

    def _stream_pairs(
        self,
        pairs: Iterable[tuple[str, str]],
        options: AnswerOptions,
        finish: Callable[[Runs], Sequence[T]],
        on_error: OnError,
    ) -> Iterator[T | InputError]:
        chunks: ChunkStages[tuple[str, str], EncodedPair, Runs, T] = ChunkStages(
            encode=lambda texts, position, last: self.stages.encode(texts, options, position, last),
            start=self._start,
            finish=finish,
        )
        return self._stream("pairs", "question and context", pairs, chunks, self._chunk, on_error)

    def _stream(
        self,
        name: str,
        of: str,
        given: Iterable[Given],
        chunks: ChunkStages[Given, Encoded, Started, T],
        chunk: int,
        on_error: OnError,
    ) -> Iterator[T | InputError]:
        check_on_error(on_error)
        if not isinstance(given, Iterable):
            raise InputError(
                f"{name} must be tuples of {of}, in a list or generator, not {type(given).__name__}."
            )
        return stream(iter(given), chunks, chunk=chunk, ahead=self._ahead, on_error=on_error)

    def _finish(self, runs: Runs, options: AnswerOptions) -> list[Prediction]:
        """Wait for the runs of a chunk and decode it."""
        clock = StageClock()
        starts, ends = runs.logits()
        clock.lap("run")
        # Closing lets what was started finish.
        return decode(runs.pairs, starts, ends, options, self._manifest)

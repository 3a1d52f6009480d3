"""The whole story: text in, windows, batches, logits, spans, answer out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args, overload

from fastspan.bundle.hub.cache import hub_snapshot
from fastspan.errors import Closed, InputError
from fastspan.loading import LoadedBundle, load_bundle
from fastspan.options import AnswerOptions, AnswerOverrides, LoadOptions, LoadOverrides, shown
from fastspan.reading import (
    PASSAGES,
    SetRuns,
    encode_set,
    encode_sets,
    finish_sets,
    reading_options,
)
from fastspan.results import Info, Prediction, Reading
from fastspan.runtime.deadline import check_deadline, deadline_in
from fastspan.runtime.session import Logits
from fastspan.runtime.workers import Queued, Runs, Workers
from fastspan.stage_times import StageClock
from fastspan.stages import Stages, decode
from fastspan.streaming import CHUNK, GPU_CHUNK, ChunkStages, OnError, stream
from fastspan.text.encoder import EncodedPair
from fastspan.text.passages import GivenSet, Passage, passage_set

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["Decode", "QuestionAnswerer"]

T = TypeVar("T")

OfWindows = Sequence[Sequence[Logits]]
Decode = Callable[[Sequence[EncodedPair], OfWindows, OfWindows], Sequence[T]]
"""Makes one result a pair of encoded pairs and, for each of their windows, start and end logits. *Shape:*
``(length,)``, float32, where ``length`` is the window's own."""


class QuestionAnswerer:
    """Answers questions from text. Made by ``load``; safe to call from many threads at once.

    It works in a forked child, and pickles as the path and options it was loaded with.

    Example:
        >>> with QuestionAnswerer.load("models/exported/minilm-l6-squad2") as qa:  # doctest: +SKIP
        ...     qa.answer("Who wrote it?", "Ada wrote it.").answer.text
        'Ada'
    """

    def __init__(self, loaded: LoadedBundle) -> None:
        """Use ``load``, which makes what this takes."""
        self._manifest = loaded.bundle.manifest
        self._source = (loaded.bundle.folder, loaded.options)
        throughput = loaded.options.optimize_for == "throughput"
        self._workers = Workers(loaded.settings.workers) if throughput else None
        self._info = _describe(loaded)
        # Closing forgets what was loaded; calls in flight hold it until they have finished.
        self._held: Stages | None = Stages(loaded)

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        options: LoadOptions | None = None,
        **overrides: Unpack[LoadOverrides],
    ) -> Self:
        """Load a bundle and make it ready to answer.

        Args:
            source: The folder that ``fastspan export`` wrote, or the hub id of a repository that holds one.
                A repository that holds a checkpoint is exported once, into the user's cache.
            revision: With a hub id: branch, tag or commit.
            options: How to load it.
            **overrides: Single fields of ``LoadOptions``: ``variant``, ``provider``, ``provider_options``,
                ``optimize_for``, ``threads``, ``spinning``, ``token_budget``, ``gpu_memory_limit``,
                ``profile``, ``kernels`` or ``domain``.

        Raises:
            BundleError: The bundle is missing, damaged or lacks the variant.
            ProviderError: The requested execution provider cannot run it.
            CheckpointError: The hub id is that of a checkpoint that cannot be exported.
            MissingDependency: onnxruntime (or, for a hub id, huggingface_hub or what exports a checkpoint) is
                not installed.
            InputError: An option is unknown or unusable.
        """
        if not isinstance(options, LoadOptions | None):
            raise InputError(f"options must be LoadOptions or None, not {type(options).__name__}.")
        return cls(load_bundle(source, revision, (options or LoadOptions()).override(overrides)))

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
        _check_on_error(on_error)
        return self._stream_pairs(pairs, chosen, lambda runs: self._finish(runs, chosen), on_error)

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
        _check_on_error(on_error)
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

    def info(self) -> Info:
        """Say what is loaded, why, and what it runs on; once closed, what that was."""
        stages = self._held
        retries = 0 if stages is None else stages.loaded.session.out_of_memory_retries
        if retries > self._info.out_of_memory_retries:
            self._info = replace(self._info, out_of_memory_retries=retries)
        return self._info

    def close(self) -> None:
        """Let calls in flight finish, refuse further ones, and give the model's memory back.

        That happens at once, or when the last call in flight has finished. Closing twice does nothing.
        """
        self.info()
        self._held = None
        if self._workers is not None:
            self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_again, (type(self), *self._source)

    def __repr__(self) -> str:
        state = "closed" if self._held is None else f"{self._info.variant} on {self._info.providers[0]}"
        return f"<QuestionAnswerer {self._info.name}: {state}>"

    @property
    def stages(self) -> Stages:
        """The stages of an answer, for a caller that orders them itself; they hold what was loaded.

        Raises:
            Closed: ``close`` was called.
        """
        stages = self._held
        if stages is None:
            raise Closed("This answerer was closed; load the bundle again.")
        return stages

    def _stream_pairs(
        self,
        pairs: Iterable[tuple[str, str]],
        options: AnswerOptions,
        finish: Callable[[Runs], Sequence[T]],
        on_error: OnError,
    ) -> Iterator[T | InputError]:
        if not isinstance(pairs, Iterable):
            raise InputError(
                "pairs must be tuples of question and context, in a list or generator, "
                f"not {type(pairs).__name__}."
            )
        # The stages are asked for chunk by chunk: a stream that nobody reads on must not hold the model.
        return stream(
            iter(pairs),
            ChunkStages(
                encode=lambda texts, position, last: self.stages.encode(texts, options, position, last),
                start=self._start,
                finish=finish,
            ),
            chunk=self._chunk,
            ahead=self._ahead,
            on_error=on_error,
        )

    @property
    def _chunk(self) -> int:
        return GPU_CHUNK if self.stages.loaded.session.graph.target == "cuda" else CHUNK

    @property
    def _ahead(self) -> int:
        # With workers, the next chunk is encoded and queued while the one before it still runs.
        return 1 if self._workers is not None else 0

    def _start(self, pairs: Sequence[EncodedPair]) -> Runs:
        """Start the runs of a chunk; those that no thread takes are over when this returns."""
        stages = self.stages
        groups, batches = stages.plan(pairs)
        clock = StageClock()
        logits = stages.start(batches, None, self._workers)
        runs = Runs(pairs, groups, logits if isinstance(logits, Queued) else list(logits))
        clock.lap("run")
        return runs

    def _finish(self, runs: Runs, options: AnswerOptions) -> list[Prediction]:
        """Wait for the runs of a chunk and decode it."""
        clock = StageClock()
        starts, ends = runs.logits()
        clock.lap("run")
        # Closing lets what was started finish.
        return decode(runs.pairs, starts, ends, options, self._manifest)


def _check_on_error(on_error: object) -> None:
    if on_error not in get_args(OnError):
        raise InputError(f"on_error must be 'raise' or 'yield', not {shown(on_error)}.")


def _describe(loaded: LoadedBundle) -> Info:
    manifest, options = loaded.bundle.manifest, loaded.options
    calibration = manifest.calibration(options.domain)
    snapshot = hub_snapshot(loaded.bundle.folder)
    return Info(
        bundle=str(loaded.bundle.folder),
        name=manifest.name,
        variant=loaded.choice.variant.name,
        reason=loaded.choice.reason,
        graph=loaded.session.graph.file,
        providers=loaded.session.providers,
        threads=loaded.settings.threads * loaded.settings.workers,
        workers=loaded.settings.workers,
        optimize_for=options.optimize_for,
        profile=loaded.profile,
        max_length=manifest.max_length,
        overlap=manifest.overlap,
        no_answer_threshold=calibration.no_answer.threshold,
        calibrated=calibration.confidence is not None,
        calibrated_for_sets=calibration.sets is not None,
        domain=options.domain,
        domains=tuple(manifest.domains),
        onnxruntime=loaded.onnxruntime,
        revision=snapshot.commit if snapshot is not None else manifest.source.revision,
    )


def _load_again(kind: type[QuestionAnswerer], folder: Path, options: LoadOptions) -> QuestionAnswerer:
    return kind.load(folder, options=options)

"""The whole story: text in, windows, batches, logits, spans, answer out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from fastspan.bundle.hub_cache import hub_snapshot
from fastspan.decoding.pipeline import predict_pipeline
from fastspan.decoding.squad import decode_squad
from fastspan.errors import Closed, InputError
from fastspan.loading import LoadedBundle, load_bundle
from fastspan.options import AnswerOptions, AnswerOverrides, LoadOptions, LoadOverrides, shown
from fastspan.results import Info, Prediction
from fastspan.runtime.batching import plan_equal_lengths, plan_packed, plan_padded
from fastspan.runtime.deadline import check_deadline, deadline_in
from fastspan.runtime.session import Logits, Session
from fastspan.runtime.workers import Queued, Runs, Workers
from fastspan.stage_times import StageClock
from fastspan.streaming import CHUNK, GPU_CHUNK, OnError, Stages, stream
from fastspan.text.encoder import EncodedPair, Encoder, Window
from fastspan.text.inputs import columns

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["QuestionAnswerer"]


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
        manifest = loaded.bundle.manifest
        self._window = (manifest.max_length, manifest.overlap)
        self._defaults = AnswerOptions().within(*self._window)
        self._threshold = manifest.no_answer.threshold
        self._confidence = manifest.confidence
        self._source = (loaded.bundle.folder, loaded.options)
        throughput = loaded.options.optimize_for == "throughput"
        self._workers = Workers(loaded.settings.workers) if throughput else None
        self._info = _describe(loaded)
        # Closing forgets what was loaded; calls in flight hold it until they have finished.
        self._held: LoadedBundle | None = loaded

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
                ``profile`` or ``kernels``.

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
                ``no_answer_threshold``, ``align_to_words``, ``handle_impossible_answer`` or
                ``truncate_question``.

        Raises:
            InputError: An argument is unusable; the message names it.
            DeadlineExceeded: ``timeout`` passed first.
            InferenceError: ONNX Runtime failed.
            Closed: ``close`` was called before.
        """
        deadline = deadline_in(timeout)
        chosen = self._options(options, overrides, "answer")
        loaded = self._loaded
        between = None if deadline is None else lambda: check_deadline(deadline)
        pairs = _encode(loaded.encoder, [(question, context)], chosen, None, between=between)
        groups, batches = _plan(loaded, pairs)
        clock = StageClock()
        logits = list(self._started(loaded.session, batches, deadline))
        clock.lap("run")
        return self._decode(Runs(pairs, groups, logits), chosen)[0]

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
                ``no_answer_threshold``, ``align_to_words``, ``handle_impossible_answer`` or
                ``truncate_question``.

        Yields:
            One prediction a pair; with ``on_error="yield"`` an ``InputError`` for one that cannot be used.

        Raises:
            InputError: A pair is unusable, which its ``index`` tells, or an option is. Every pair before it
                has been answered by then.
            Exception: What ``pairs`` raised, if it did; every pair before has been answered by then.
            InferenceError: ONNX Runtime failed.
            Closed: ``close`` was called before.
        """
        chosen = self._options(options, overrides, "answer_many")
        if not isinstance(pairs, Iterable):
            raise InputError(
                "pairs must be tuples of question and context, in a list or generator, "
                f"not {type(pairs).__name__}."
            )
        if on_error not in get_args(OnError):
            raise InputError(f"on_error must be 'raise' or 'yield', not {shown(on_error)}.")
        on_gpu = self._loaded.session.graph.target == "cuda"
        return stream(
            iter(pairs),
            Stages(
                encode=lambda texts, position, last: _encode(
                    self._loaded.encoder, texts, chosen, position, last
                ),
                start=self._start,
                finish=lambda runs: self._decode(runs, chosen),
            ),
            chunk=GPU_CHUNK if on_gpu else CHUNK,
            # With workers, the next chunk is encoded and queued while the one before it still runs.
            ahead=1 if self._workers is not None else 0,
            on_error=on_error,
        )

    def info(self) -> Info:
        """Say what is loaded, why, and what it runs on; once closed, what that was."""
        loaded = self._held
        if loaded is not None and loaded.session.out_of_memory_retries > self._info.out_of_memory_retries:
            self._info = replace(self._info, out_of_memory_retries=loaded.session.out_of_memory_retries)
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
    def _loaded(self) -> LoadedBundle:
        """What was loaded; a call takes it once, so that closing does not end it half-way."""
        loaded = self._held
        if loaded is None:
            raise Closed("This answerer was closed; load the bundle again.")
        return loaded

    def _options(
        self, options: AnswerOptions | None, overrides: Mapping[str, Any], call: str
    ) -> AnswerOptions:
        if not isinstance(options, AnswerOptions | None):
            raise InputError(f"options must be AnswerOptions or None, not {type(options).__name__}.")
        return (options or self._defaults).override(overrides, call).within(*self._window)

    # The stages: ``_encode``, ``_plan``, the runs, ``_decode``.

    def _started(
        self, session: Session, batches: Sequence[Sequence[Window]], deadline: float | None
    ) -> Iterable[tuple[Logits, Logits]]:
        """Start runs in threads, where that lets work overlap; else they run as their logits are taken."""
        # Even one batch leaves this thread free to encode, where a GPU runs it.
        on_gpu = session.graph.target == "cuda"
        if self._workers is not None and (on_gpu or len(batches) > 1):
            return self._workers.start(session, batches, deadline)
        return map(partial(session.run, deadline=deadline), batches)

    def _start(self, pairs: Sequence[EncodedPair]) -> Runs:
        """Start the runs of a chunk; those that no thread takes are over when this returns."""
        loaded = self._loaded
        groups, batches = _plan(loaded, pairs)
        clock = StageClock()
        logits = self._started(loaded.session, batches, None)
        runs = Runs(pairs, groups, logits if isinstance(logits, Queued) else list(logits))
        clock.lap("run")
        return runs

    def _decode(self, runs: Runs, options: AnswerOptions) -> list[Prediction]:
        clock = StageClock()
        starts, ends = runs.logits()
        clock.lap("run")
        if options.decoding == "pipeline":
            predictions = predict_pipeline(runs.pairs, starts, ends, options)
        else:
            predictions = decode_squad(
                runs.pairs, starts, ends, options, threshold=self._threshold, confidence=self._confidence
            )
        clock.lap("decode")
        return predictions


def _encode(
    encoder: Encoder,
    texts: Sequence[tuple[str, str]],
    options: AnswerOptions,
    position: int | None,
    last: EncodedPair | None = None,
    between: Callable[[], None] | None = None,
) -> list[EncodedPair]:
    clock = StageClock()
    questions, contexts = columns(texts, position)
    pairs = encoder.encode(questions, contexts, options, position, last, between)
    clock.lap("encode")
    return pairs


def _plan(loaded: LoadedBundle, pairs: Sequence[EncodedPair]) -> tuple[list[list[int]], list[list[Window]]]:
    """Say which windows share a run: as indexes into the windows of all pairs in turn, and themselves."""
    clock = StageClock()
    windows = [window for pair in pairs for window in pair.windows]
    lengths = [len(window.input_ids) for window in windows]
    session = loaded.session
    if session.graph.target == "cpu-kernels":
        groups = plan_packed(lengths, loaded.settings.batch_tokens)
    elif session.graph.layout == "packed":
        groups = plan_packed(lengths, loaded.options.token_budget)
    elif session.graph.layout == "padded" and session.providers[0] != "CPUExecutionProvider":
        groups = plan_padded(lengths, loaded.options.token_budget)
    else:
        groups = plan_equal_lengths(lengths, loaded.settings.batch_tokens)
    batches = [[windows[index] for index in group] for group in groups]
    clock.lap("plan")
    return groups, batches


def _describe(loaded: LoadedBundle) -> Info:
    manifest, options = loaded.bundle.manifest, loaded.options
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
        no_answer_threshold=manifest.no_answer.threshold,
        calibrated=manifest.confidence is not None,
        onnxruntime=loaded.onnxruntime,
        revision=snapshot.commit if snapshot is not None else manifest.source.revision,
    )


def _load_again(kind: type[QuestionAnswerer], folder: Path, options: LoadOptions) -> QuestionAnswerer:
    return kind.load(folder, options=options)

"""The whole story: text in, windows, batches, logits, spans, answer out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastspan.batching import plan_equal_lengths, plan_packed, plan_padded
from fastspan.config import AnswerOptions, AnswerOverrides, LoadOptions, LoadOverrides
from fastspan.decoding import decode_squad
from fastspan.encoding import EncodedPair, Encoder
from fastspan.errors import Closed, InputError
from fastspan.inputs import columns, deadline_in
from fastspan.loading import LoadedBundle, load_bundle
from fastspan.pipeline_decoding import predict_pipeline
from fastspan.runs import Runs, Workers
from fastspan.streaming import stream
from fastspan.types import Info, Prediction

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
        self._loaded = loaded
        manifest = loaded.bundle.manifest
        self._encoder: Encoder = loaded.encoder
        self._session = loaded.session
        self._defaults = AnswerOptions(max_length=manifest.max_length, overlap=manifest.overlap)
        self._threshold = manifest.no_answer.threshold
        self._confidence = manifest.confidence
        throughput = loaded.options.optimize_for == "throughput"
        self._workers = Workers(loaded.settings.workers) if throughput else None
        self._closed = False

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
            revision: With a hub id: branch, tag or commit.
            options: How to load it.
            **overrides: Single fields of ``LoadOptions``, such as ``variant="int8"`` or ``threads=2``.

        Raises:
            BundleError: The bundle is missing, damaged or lacks the variant.
            ProviderError: The requested execution provider cannot run it.
            MissingDependency: onnxruntime (or, for a hub id, huggingface_hub) is not installed.
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
            **overrides: Single fields of ``AnswerOptions``, such as ``top_k=3``.

        Raises:
            InputError: An argument is unusable; the message names it.
            DeadlineExceeded: ``timeout`` passed first.
            InferenceError: ONNX Runtime failed.
            Closed: ``close`` was called before.
        """
        deadline = deadline_in(timeout)
        chosen = self._options(options, overrides)
        self._check_open()
        pairs = self._encode([(question, context)], chosen, None)
        return self._decode(self._run(pairs, deadline), chosen)[0]

    def answer_many(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        options: AnswerOptions | None = None,
        **overrides: Unpack[AnswerOverrides],
    ) -> Iterator[Prediction]:
        """Answer any number of questions, batched inside, streamed in the order of the input.

        Args:
            pairs: Tuples of question and context; a generator of any length is read as answers are taken.
            options: How to answer; None: the bundle's window with every other default.
            **overrides: Single fields of ``AnswerOptions``.

        Yields:
            One prediction a pair.

        Raises:
            InputError: A pair is unusable; every pair before it has been answered by then.
            InferenceError: ONNX Runtime failed.
            Closed: ``close`` was called before.
        """
        chosen = self._options(options, overrides)
        if not isinstance(pairs, Iterable):
            raise InputError(
                "pairs must be tuples of question and context, in a list or generator, "
                f"not {type(pairs).__name__}."
            )
        self._check_open()
        return stream(
            iter(pairs),
            lambda texts, position: self._encode(texts, chosen, position),
            self._run,
            lambda runs: self._decode(runs, chosen),
            # With workers, the next chunk is encoded and queued while the one before it still runs.
            ahead=1 if self._workers is not None else 0,
        )

    def info(self) -> Info:
        """Say what is loaded, why, and what it runs on."""
        loaded, options = self._loaded, self._loaded.options
        return Info(
            bundle=str(loaded.bundle.folder),
            name=loaded.bundle.manifest.name,
            variant=loaded.choice.variant.name,
            reason=loaded.choice.reason,
            graph=self._session.graph.file,
            providers=self._session.providers,
            threads=loaded.settings.threads * loaded.settings.workers,
            workers=loaded.settings.workers,
            optimize_for=options.optimize_for,
            profile=loaded.profile,
            max_length=self._defaults.max_length,
            overlap=self._defaults.overlap,
            no_answer_threshold=self._threshold,
            calibrated=self._confidence is not None,
            onnxruntime=loaded.onnxruntime,
        )

    def close(self) -> None:
        """Let calls in flight finish and refuse further ones. Closing twice does nothing."""
        self._closed = True
        if self._workers is not None:
            self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_again, (type(self), self._loaded.bundle.folder, self._loaded.options)

    def __repr__(self) -> str:
        state = (
            "closed"
            if self._closed
            else f"{self._loaded.choice.variant.name} on {self._session.providers[0]}"
        )
        return f"<QuestionAnswerer {self._loaded.bundle.manifest.name}: {state}>"

    def _options(self, options: AnswerOptions | None, overrides: Mapping[str, Any]) -> AnswerOptions:
        if not isinstance(options, AnswerOptions | None):
            raise InputError(f"options must be AnswerOptions or None, not {type(options).__name__}.")
        return (options or self._defaults).override(overrides)

    # The stages, in the order they run.

    def _encode(
        self, texts: Sequence[tuple[str, str]], options: AnswerOptions, position: int | None
    ) -> list[EncodedPair]:
        questions, contexts = columns(texts, position)
        return self._encoder.encode(questions, contexts, options, position)

    def _plan(self, lengths: list[int]) -> list[list[int]]:
        """Say which windows share a run."""
        session, loaded = self._session, self._loaded
        if session.graph.layout == "packed":
            return plan_packed(lengths, loaded.options.token_budget)
        if session.graph.layout == "padded" and session.providers[0] != "CPUExecutionProvider":
            return plan_padded(lengths, loaded.options.token_budget)
        return plan_equal_lengths(lengths, loaded.settings.batch_tokens)

    def _run(self, pairs: Sequence[EncodedPair], deadline: float | None = None) -> Runs:
        """Start the runs of all windows: in threads where that lets work overlap, else at once."""
        self._check_open()
        windows = [window for pair in pairs for window in pair.windows]
        groups = self._plan([len(window.input_ids) for window in windows])
        batches = [[windows[index] for index in group] for group in groups]
        # Even one batch leaves this thread free to encode, where a GPU runs it.
        on_gpu = self._session.graph.layout == "packed"
        if self._workers is not None and (on_gpu or len(batches) > 1):
            return Runs(pairs, groups, self._workers.start(self._session, batches, deadline))
        return Runs(pairs, groups, [self._session.run(batch, deadline=deadline) for batch in batches])

    def _decode(self, runs: Runs, options: AnswerOptions) -> list[Prediction]:
        starts, ends = runs.logits()
        decode = decode_squad if options.decoding == "squad" else predict_pipeline
        return decode(
            runs.pairs, starts, ends, options, threshold=self._threshold, confidence=self._confidence
        )

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("This answerer was closed; load the bundle again.")


def _load_again(kind: type[QuestionAnswerer], folder: Path, options: LoadOptions) -> QuestionAnswerer:
    return kind.load(folder, options=options)

"""The whole story: text in, windows, batches, logits, spans, answer out."""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastspan.batching import SHORT_BATCH_TOKENS, plan_equal_lengths, plan_padded
from fastspan.config import AnswerOptions, AnswerOverrides, LoadOptions
from fastspan.decoding import decode_squad
from fastspan.encoding import EncodedPair, Encoder, Window
from fastspan.errors import Closed, DeadlineExceeded, InputError
from fastspan.inputs import columns, deadline_in
from fastspan.loading import LoadedBundle, load_bundle
from fastspan.pipeline_decoding import predict_pipeline
from fastspan.session import Logits
from fastspan.types import Info, Prediction

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from typing_extensions import Self, Unpack

__all__ = ["QuestionAnswerer"]

# Pairs that answer_many encodes, runs and decodes together: enough for the tokenizer's threads and for
# windows of equal length to meet, few enough that memory stays small and the first answers come soon.
_CHUNK = 64


@dataclass(slots=True)
class _Chunk:
    """Encoded pairs and the runs that were started for them."""

    pairs: list[EncodedPair]
    places: list[tuple[int, int]]
    groups: list[list[int]]
    runs: list[Future[tuple[Logits, Logits]]]


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
        self._throughput = loaded.options.optimize_for == "throughput"
        self._workers = self._make_workers()
        self._process = os.getpid()
        self._closed = False

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        options: LoadOptions | None = None,
        **overrides: Any,
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
        known = [f.name for f in fields(LoadOptions)]
        for name in overrides:
            if name not in known:
                raise InputError(f"{name!r} is not an option of load(); the options are {', '.join(known)}.")
        if not isinstance(options, LoadOptions | None):
            raise InputError(f"options must be LoadOptions or None, not {type(options).__name__}.")
        base = {name: getattr(options, name) for name in known} if options is not None else {}
        return cls(load_bundle(source, revision, LoadOptions(**{**base, **overrides})))

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
        chunk = self._start([(question, context)], chosen, None, deadline)
        return self._finish(chunk, chosen)[0]

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
        return self._stream(iter(pairs), chosen)

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
            threads=loaded.threads,
            optimize_for=options.optimize_for,
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
            self._workers.shutdown(wait=True)

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

    # From here on: chunks of pairs on their way through.

    def _stream(self, pairs: Iterator[tuple[str, str]], options: AnswerOptions) -> Iterator[Prediction]:
        started: deque[_Chunk] = deque()
        # With workers, the next chunk is encoded and queued while the one before it still runs.
        ahead = 1 if self._throughput else 0
        first_index = 0
        fault: InputError | None = None
        while fault is None and (texts := list(itertools.islice(pairs, _CHUNK))):
            self._check_open()
            try:
                started.append(self._start(texts, options, first_index, None))
            except InputError:
                good, fault = self._until_fault(texts, options, first_index)
                if good:
                    started.append(self._start(good, options, first_index, None))
            first_index += len(texts)
            while len(started) > ahead:
                yield from self._finish(started.popleft(), options)
        while started:
            yield from self._finish(started.popleft(), options)
        if fault is not None:
            raise fault

    def _start(
        self,
        texts: Sequence[tuple[str, str]],
        options: AnswerOptions,
        first_index: int | None,
        deadline: float | None,
    ) -> _Chunk:
        """Encode pairs, plan their windows into batches, and start the runs."""
        questions, contexts = columns(texts, first_index)
        pairs = self._encoder.encode(questions, contexts, options, first_index)
        windows = [window for pair in pairs for window in pair.windows]
        places = [(row, column) for row, pair in enumerate(pairs) for column in range(len(pair.windows))]
        groups = self._plan([len(window.input_ids) for window in windows])
        workers = self._working()
        from concurrent.futures import Future

        runs: list[Future[tuple[Logits, Logits]]] = []
        for group in groups:
            batch = [windows[index] for index in group]
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineExceeded("The deadline passed before all windows had run; allow more time.")
            if workers is not None and len(windows) > 1:
                runs.append(self._submit(workers, batch, deadline))
            else:
                run: Future[tuple[Logits, Logits]] = Future()
                run.set_result(self._session.run(batch, deadline=deadline))
                runs.append(run)
        return _Chunk(pairs, places, groups, runs)

    def _submit(
        self, workers: ThreadPoolExecutor, batch: Sequence[Window], deadline: float | None
    ) -> Future[tuple[Logits, Logits]]:
        try:
            return workers.submit(self._session.run, batch, deadline=deadline)
        except RuntimeError:
            # Another thread may have closed the answerer since this call began.
            self._check_open()
            raise

    def _plan(self, lengths: list[int]) -> list[list[int]]:
        if self._session.graph.layout == "padded":
            on_cpu = self._session.providers[0] == "CPUExecutionProvider"
            if on_cpu:
                return plan_equal_lengths(lengths, SHORT_BATCH_TOKENS)
            return plan_padded(lengths, self._loaded.options.token_budget)
        # A dynamic int8 scale spans the batch: alone, a window's answer cannot depend on its company.
        alone = self._loaded.choice.variant.name == "int8"
        return plan_equal_lengths(lengths, 1 if alone else SHORT_BATCH_TOKENS)

    def _finish(self, chunk: _Chunk, options: AnswerOptions) -> list[Prediction]:
        """Wait for the runs of a chunk and decode them."""
        starts: list[list[Any]] = [[None] * len(pair.windows) for pair in chunk.pairs]
        ends: list[list[Any]] = [[None] * len(pair.windows) for pair in chunk.pairs]
        for group, run in zip(chunk.groups, chunk.runs, strict=True):
            start, end = run.result()
            for row, index in enumerate(group):
                pair, window = chunk.places[index]
                length = len(chunk.pairs[pair].windows[window].input_ids)
                starts[pair][window] = start[row, :length]
                ends[pair][window] = end[row, :length]
        decode = decode_squad if options.decoding == "squad" else predict_pipeline
        return decode(
            chunk.pairs, starts, ends, options, threshold=self._threshold, confidence=self._confidence
        )

    def _until_fault(
        self, texts: Sequence[tuple[str, str]], options: AnswerOptions, first_index: int
    ) -> tuple[list[tuple[str, str]], InputError]:
        """The pairs before the first that cannot be used, and what is wrong with that one."""
        for number, pair in enumerate(texts):
            try:
                questions, contexts = columns([pair], first_index + number)
                self._encoder.encode(questions, contexts, options, first_index + number)
            except InputError as error:
                return list(texts[:number]), error
        raise InputError("the pairs changed while they were read")

    def _make_workers(self) -> ThreadPoolExecutor | None:
        if not self._throughput:
            return None
        from concurrent.futures import ThreadPoolExecutor  # slow to import, and needed for throughput alone

        return ThreadPoolExecutor(self._loaded.threads, thread_name_prefix="fastspan")

    def _working(self) -> ThreadPoolExecutor | None:
        """The workers; a forked child, which has none of its parent's threads, makes new ones."""
        if self._workers is not None and os.getpid() != self._process:
            self._workers = self._make_workers()
            self._process = os.getpid()
        return self._workers

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("This answerer was closed; load the bundle again.")


def _load_again(kind: type[QuestionAnswerer], folder: Path, options: LoadOptions) -> QuestionAnswerer:
    return kind.load(folder, options=options)

"""The same windows through PyTorch and through the engine: every logit, each computed once.

The engine's logits are taken on their way from the session to its decoding, so a variant is measured with
the batches, threads and padding that it answers with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastspan.answerer import QuestionAnswerer
from fastspan.benchmarks.accuracy.evaluation import Outcomes, ask
from fastspan.benchmarks.questions.squad_files import Question
from fastspan.bundle.folder import Bundle, sha256_of
from fastspan.decoding.squad import decode_squad
from fastspan.errors import CheckpointError, DataError, InputError, MissingDependency
from fastspan.export.checkpoint.source import ResolvedSource, resolve_source
from fastspan.export.verification.comparison import LogitPairs
from fastspan.export.verification.pytorch_reference import has_pytorch, torch_logits
from fastspan.loading import LoadedBundle, load_bundle
from fastspan.options import AnswerOptions, LoadOptions
from fastspan.runtime.session import Logits, Session
from fastspan.runtime.workers import by_pair
from fastspan.text.encoder import EncodedPair, Encoder, Window

__all__ = ["VariantRun", "encode_questions", "find_checkpoint", "run_pytorch", "run_variant"]

WindowLogits = dict[bytes, tuple[Logits, Logits]]


@dataclass(frozen=True, eq=False)
class VariantRun:
    """What one system gave for a set of questions.

    Attributes:
        graph: The graph's file; for PyTorch the checkpoint's folder.
        providers: What ran it.
        threads: How many threads computed.
        outcomes: What it answered.
        logits: Start and end logits of every window, question by question. *Shape:* ``(length,)`` each.
    """

    graph: str
    providers: tuple[str, ...]
    threads: int
    outcomes: Outcomes
    logits: LogitPairs


def find_checkpoint(
    bundle: Bundle,
    checkpoint: str | None,
    *,
    resolve: Callable[[str, str | None], ResolvedSource] = resolve_source,
) -> Path:
    """Return the folder of the checkpoint that a bundle was exported from.

    Args:
        bundle: The bundle.
        checkpoint: A folder or a hub id; None: what the manifest names. The hub id that the manifest names is
            taken at the manifest's commit, any other at its main branch.
        resolve: Returns the folder that a name and a commit stand for.

    Raises:
        CheckpointError: It is not found, or it is not the one that was exported.
        MissingDependency: PyTorch or transformers is not installed.
    """
    if not has_pytorch():
        raise MissingDependency(
            "A comparison with PyTorch needs torch and transformers: pip install 'fastspan[reference]'."
        )
    source = bundle.manifest.source
    wanted = checkpoint or source.id
    exported = wanted == source.id and not Path(wanted).exists()
    try:
        folder = resolve(wanted, source.revision if exported else None).folder
    except CheckpointError as error:
        if checkpoint is not None:
            raise
        raise CheckpointError(
            f"The bundle was exported from {source.id!r}, which was not found: give its folder as "
            f"--checkpoint. ({error})"
        ) from error
    for name, digest in source.sha256.items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != digest:
            raise CheckpointError(
                f"{path} is not the file that {bundle.folder} was exported from (sha256 {digest}): give the "
                "right folder as --checkpoint, or export the checkpoint again."
            )
    return folder


def encode_questions(bundle: Bundle, questions: Sequence[Question]) -> list[EncodedPair]:
    """Cut the questions into the windows that the engine cuts them into.

    Raises:
        DataError: A question cannot be asked; the message names it.
    """
    encoder = Encoder.of_bundle(bundle)
    options = _options(bundle)
    try:
        return encoder.encode([q.question for q in questions], [q.context for q in questions], options)
    except InputError as error:
        raise DataError(f"{_culprit(encoder, questions, options)} cannot be asked: {error}") from error


def run_pytorch(
    bundle: Bundle,
    folder: Path,
    questions: Sequence[Question],
    pairs: Sequence[EncodedPair],
    *,
    threads: int,
    step: Callable[[], None],
) -> VariantRun:
    """Answer the questions with the checkpoint itself, in PyTorch, in fp32 on the CPU.

    Args:
        bundle: The bundle.
        folder: The checkpoint's folder.
        questions: What to ask.
        pairs: The questions, encoded.
        threads: Threads to compute with.
        step: Called after each window.

    Raises:
        CheckpointError: PyTorch cannot load the checkpoint.
    """
    began = time.perf_counter()
    segment_ids = bundle.manifest.model.segment_ids
    logits = torch_logits(folder, pairs, segment_ids=segment_ids, threads=threads, step=step)
    starts, ends = (by_pair(pairs, [window[side] for window in logits]) for side in (0, 1))
    predictions = decode_squad(pairs, starts, ends, _options(bundle), threshold=0.0)
    outcomes = Outcomes(tuple(questions), tuple(predictions), time.perf_counter() - began)
    return VariantRun(str(folder), ("PyTorch",), threads, outcomes, logits)


def run_variant(
    bundle: Bundle,
    options: LoadOptions,
    questions: Sequence[Question],
    pairs: Sequence[EncodedPair],
    *,
    step: Callable[[], None],
    load: Callable[[Path, str | None, LoadOptions], LoadedBundle] = load_bundle,
) -> VariantRun:
    """Answer the questions with one variant in the engine.

    Args:
        bundle: The bundle.
        options: Which variant, and how to run it.
        questions: What to ask.
        pairs: The questions, encoded as ``encode_questions`` does.
        step: Called after each question.
        load: Loads the bundle; its session is the one that runs.

    Raises:
        BundleError: The bundle is damaged or lacks the variant.
        ProviderError: The provider cannot run it.
        InferenceError: ONNX Runtime failed, or the graph yields what is not a number.
    """
    loaded = load(bundle.folder, None, options)
    recording = _RecordingSession(loaded.session)
    with QuestionAnswerer(replace(loaded, session=recording)) as answerer:
        info = answerer.info()
        outcomes = ask(answerer, questions, step=step)
    logits = [recording.recorded[_key(window)] for pair in pairs for window in pair.windows]
    return VariantRun(info.graph, info.providers, info.threads, outcomes, logits)


class _RecordingSession:
    """Stands before a loaded session, of whatever kind, and keeps the logits of every window it ran."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.graph, self.settings = session.graph, session.settings
        self.shared_with_cpu = session.shared_with_cpu
        self.recorded: WindowLogits = {}

    @property
    def providers(self) -> tuple[str, ...]:
        """As the session's."""
        return self._session.providers

    @property
    def out_of_memory_retries(self) -> int:
        """As the session's."""
        return self._session.out_of_memory_retries

    def run(self, windows: Sequence[Window], *, deadline: float | None = None) -> tuple[Logits, Logits]:
        """Run windows as the session does, and keep a copy of each one's logits without its padding."""
        start, end = self._session.run(windows, deadline=deadline)
        for row, window in enumerate(windows):
            length = len(window.input_ids)
            self.recorded[_key(window)] = (start[row, :length].copy(), end[row, :length].copy())
        return start, end


def _culprit(encoder: Encoder, questions: Sequence[Question], options: AnswerOptions) -> str:
    """Name the first question that cannot be encoded."""
    for question in questions:
        try:
            encoder.encode([question.question], [question.context], options)
        except InputError:
            return f"question {question.id!r}"
    return "a question"


def _key(window: Window) -> bytes:
    """What the model sees of a window: windows that agree in it share their logits."""
    return np.concatenate((window.input_ids, window.type_ids)).tobytes()


def _options(bundle: Bundle) -> AnswerOptions:
    manifest = bundle.manifest
    return AnswerOptions(max_length=manifest.max_length, overlap=manifest.overlap, truncate_question=True)

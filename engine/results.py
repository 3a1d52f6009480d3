"""What an answerer returns: plain frozen values, safe to share, pickle and compare."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Answer", "Info", "Prediction"]


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
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


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
        onnxruntime: Its version.
        revision: The commit on the hub: that of the bundle where it was loaded from there, else that of the
            checkpoint it was exported from; None where neither came from a hub.
        out_of_memory_retries: How many batches did not fit into memory until now, and ran again in halves.
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
    revision: str | None = None
    out_of_memory_retries: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as built-in types."""
        return asdict(self)

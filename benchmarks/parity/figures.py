"""How far one set of answers and logits is from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastspan.benchmarks.accuracy.evaluation import Outcomes
from fastspan.benchmarks.accuracy.squad_metric import per_question
from fastspan.benchmarks.intervals import Interval, paired_difference_interval
from fastspan.benchmarks.parity.runs import VariantRun
from fastspan.bundle.manifest import FileRecord
from fastspan.export.verification.comparison import LogitPairs

__all__ = ["Agreement", "Disagreement", "VariantParity", "compare_runs"]

_SHOWN = 10
_EXCERPT = 90  # characters on either side of an answer


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a variant's answers compare with PyTorch's at one no-answer threshold.

    Attributes:
        threshold: No answer where ``null_score - best_span_score`` exceeds it.
        exact: The variant's exact match, in percent.
        f1: The variant's F1, in percent.
        exact_difference: Its exact match less PyTorch's, in points, with a paired 95% interval.
        f1_difference: Its F1 less PyTorch's, in points, with a paired 95% interval.
        equal_answers: The share of the questions with the same answer, or none from both.
    """

    threshold: float
    exact: float
    f1: float
    exact_difference: Interval
    f1_difference: Interval
    equal_answers: float


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A question that PyTorch and a variant answer differently.

    Attributes:
        id: The question's id.
        question: Its text.
        excerpt: The passage around the answers.
        references: The distinct reference answers; empty for an unanswerable question.
        pytorch: PyTorch's answer, ``""`` for none.
        pytorch_margin: Its ``null_score - best_span_score``.
        variant: The variant's answer, ``""`` for none.
        variant_margin: Its ``null_score - best_span_score``.
        f1_loss: PyTorch's F1 less the variant's, in [-1, 1].
    """

    id: str
    question: str
    excerpt: str
    references: tuple[str, ...]
    pytorch: str
    pytorch_margin: float
    variant: str
    variant_margin: float
    f1_loss: float


@dataclass(frozen=True, slots=True)
class VariantParity:
    """One variant against PyTorch.

    Attributes:
        variant: Its name.
        graph: The graph that ran.
        sha256: Path → SHA-256 of the graph and of its data.
        providers: What ran it.
        threads: How many threads computed.
        bytes: Size of the graph with its data, for this machine.
        questions_per_second: From text to answer, while this comparison ran.
        largest_difference: Largest absolute difference of a logit.
        difference_999: The difference that 99.9% of the logits stay below.
        null_score_difference: Largest absolute difference of a question's null score.
        equal_spans: The share of the questions with the same best span, whatever the threshold.
        agreements: Figures by threshold; the first is the one the gates judge.
        differing: How many questions are answered differently at that threshold.
        disagreements: The worst of them, at most ten.
    """

    variant: str
    graph: str
    sha256: Mapping[str, str]
    providers: tuple[str, ...]
    threads: int
    bytes: int
    questions_per_second: float
    largest_difference: float
    difference_999: float
    null_score_difference: float
    equal_spans: float
    agreements: tuple[Agreement, ...]
    differing: int
    disagreements: tuple[Disagreement, ...]


def compare_runs(
    name: str,
    files: Mapping[str, FileRecord],
    reference: VariantRun,
    run: VariantRun,
    thresholds: Sequence[float],
) -> VariantParity:
    """Compare a variant with PyTorch on the same questions.

    Args:
        name: The variant.
        files: Path → record of its graph and of the graph's data.
        reference: What PyTorch gave.
        run: What the variant gave.
        thresholds: No-answer thresholds, at least one; the first is the one the gates judge.
    """
    differences = _differences(reference.logits, run.logits)
    ours, theirs = run.outcomes, reference.outcomes
    same_span = np.array([a == b for a, b in zip(_places(ours), _places(theirs), strict=True)])
    apart = ~_same_answers(ours, theirs, same_span, thresholds[0])
    return VariantParity(
        variant=name,
        graph=run.graph,
        sha256={path: record.sha256 for path, record in files.items()},
        providers=run.providers,
        threads=run.threads,
        bytes=sum(record.bytes for record in files.values()),
        questions_per_second=len(ours.questions) / ours.seconds,
        largest_difference=float(differences.max()),
        difference_999=float(np.quantile(differences, 0.999)),
        null_score_difference=float(np.abs(ours.null_scores - theirs.null_scores).max()),
        equal_spans=float(same_span.mean()),
        agreements=tuple(_agreement(ours, theirs, same_span, threshold) for threshold in thresholds),
        differing=int(apart.sum()),
        disagreements=_worst(ours, theirs, np.flatnonzero(apart).tolist(), thresholds[0]),
    )


def _differences(reference: LogitPairs, found: LogitPairs) -> NDArray[np.float32]:
    """Absolute differences of all logits of all windows. *Shape:* ``(logits,)``."""
    return np.concatenate(
        [
            np.abs(a - b)
            for one, other in zip(reference, found, strict=True)
            for a, b in zip(one, other, strict=True)
        ]
    )


def _places(outcomes: Outcomes) -> list[tuple[int, int] | None]:
    return [(p.answers[0].start, p.answers[0].end) if p.answers else None for p in outcomes.predictions]


def _same_answers(
    ours: Outcomes, theirs: Outcomes, same_span: NDArray[np.bool_], threshold: float
) -> NDArray[np.bool_]:
    """Whether both give the same span, or both none. *Shape:* ``(questions,)``."""
    answered, expected = ours.margins <= threshold, theirs.margins <= threshold
    return np.where(answered & expected, same_span, answered == expected)


def _agreement(ours: Outcomes, theirs: Outcomes, same_span: NDArray[np.bool_], threshold: float) -> Agreement:
    exact, f1 = (100.0 * s for s in per_question(ours.questions, ours.texts(threshold)))
    exact_expected, f1_expected = (100.0 * s for s in per_question(theirs.questions, theirs.texts(threshold)))
    return Agreement(
        threshold=threshold,
        exact=float(exact.mean()),
        f1=float(f1.mean()),
        exact_difference=paired_difference_interval(exact, exact_expected),
        f1_difference=paired_difference_interval(f1, f1_expected),
        equal_answers=float(_same_answers(ours, theirs, same_span, threshold).mean()),
    )


def _worst(
    ours: Outcomes, theirs: Outcomes, apart: Sequence[int], threshold: float
) -> tuple[Disagreement, ...]:
    """The disagreements that cost most, and of those that cost the same, the ones farthest apart."""
    if not apart:
        return ()
    answers, expected = ours.texts(threshold), theirs.texts(threshold)
    loss = per_question(theirs.questions, expected)[1] - per_question(ours.questions, answers)[1]
    chosen = sorted(apart, key=lambda i: (-loss[i], -abs(ours.margins[i] - theirs.margins[i])))[:_SHOWN]
    found = []
    for i in chosen:
        question = ours.questions[i]
        best = (*theirs.predictions[i].answers, *ours.predictions[i].answers)[0]
        found.append(
            Disagreement(
                id=question.id,
                question=question.question,
                excerpt=_excerpt(question.context, best.start, best.end),
                references=tuple(dict.fromkeys(question.answers)),
                pytorch=expected[question.id],
                pytorch_margin=float(theirs.margins[i]),
                variant=answers[question.id],
                variant_margin=float(ours.margins[i]),
                f1_loss=float(loss[i]),
            )
        )
    return tuple(found)


def _excerpt(context: str, start: int, end: int) -> str:
    first, last = max(0, start - _EXCERPT), min(len(context), end + _EXCERPT)
    text = " ".join(context[first:last].split())
    return f"{'… ' if first else ''}{text}{' …' if last < len(context) else ''}"

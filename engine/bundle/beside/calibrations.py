"""What a bundle knows of its scores: where "no answer" begins, and how sure a decision is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastspan.bundle.strict_json import require
from fastspan.options import shown

__all__ = [
    "DOMAIN",
    "Calibration",
    "Confidence",
    "FittedOn",
    "Guarantee",
    "NoAnswer",
    "SetConfidence",
    "SetCurve",
    "SetCurves",
    "check_digest",
    "check_domain",
]

DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What the name of a domain looks like."""


def check_digest(name: str, value: str) -> None:
    """Refuse what is no SHA-256 in hexadecimal.

    Raises:
        BundleError: The message calls it ``name``.
    """
    require(re.fullmatch("[0-9a-f]{64}", value) is not None, f"{name} must be 64 hexadecimal digits")


def check_domain(name: str) -> None:
    """Refuse what is no name of a domain.

    Raises:
        BundleError: The message shows it.
    """
    require(
        DOMAIN.fullmatch(name) is not None,
        f"the domain {shown(name)} must be named with at most 64 letters, digits and ._-",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedOn:
    """The questions something was fitted on.

    Attributes:
        name: The data set's name.
        questions: How many of its questions served to fit.
        sha256: SHA-256 of its file.
        reported_on_questions: How many held-out questions the reported figures come from.
    """

    name: str
    questions: int
    sha256: str
    reported_on_questions: int

    def __post_init__(self) -> None:
        check_digest("fitted_on.sha256", self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """What a threshold promises of questions like those it was fitted on.

    Attributes:
        precision: At least this share of the given answers matches exactly, in (0, 1).
        level: With this probability over the drawing of the questions, in (0, 1).
        answers: On how many given answers that was tested.
        right: How many of these matched.
    """

    precision: float
    level: float
    answers: int
    right: int

    def __post_init__(self) -> None:
        require(
            0 < self.precision < 1 and 0 < self.level < 1, "a guarantee's shares must lie between 0 and 1"
        )
        require(0 <= self.right <= self.answers, "a guarantee's right answers must be among its answers")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """When a question counts as unanswered.

    Attributes:
        threshold: No answer when ``null_score - best_span_score`` exceeds it (BERT's ``run_squad``).
        fitted_on: What it was fitted on; None for a threshold that was not fitted.
        guarantee: What it promises; None where nothing was asked for.
    """

    threshold: float = 0.0
    fitted_on: FittedOn | None = None
    guarantee: Guarantee | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """Two logistic curves from x = ``best_span_score - null_score`` to a probability (Platt, 1999).

    The probability that an answer which is given is right is ``1 / (1 + exp(-(scale * x + offset)))`` with
    the ``answered`` pair; that abstaining is right, the same with the ``abstained`` pair.

    Attributes:
        answered_scale: Slope where an answer is given.
        answered_offset: Intercept where an answer is given.
        abstained_scale: Slope where none is given.
        abstained_offset: Intercept where none is given.
        fitted_on: What the curves were fitted on.
        ece: Expected calibration error on the held-out questions, in [0, 1].
        tenths: Of how many held-out questions the confidence lay in each tenth of [0, 1], the lowest first;
            None: it was not noted.
    """

    answered_scale: float
    answered_offset: float
    abstained_scale: float
    abstained_offset: float
    fitted_on: FittedOn
    ece: float
    tenths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        counts = self.tenths
        require(
            counts is None or (len(counts) == 10 and min(counts) >= 0 and sum(counts) > 0),
            "a confidence's tenths must be ten counts, not all of them 0",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCurve:
    """A logistic regression from what is seen of a set of passages to a probability.

    Attributes:
        margin: Weight of the best span's score above its passage's null score.
        rival: Weight of ``exp`` of how far the best span of other text stays behind, in [0, 1].
        agreement: Weight of ``log(1 + passages that agree)``.
        retriever: Weight of where the answer's passage stands between the lowest retriever score, 0, and the
            highest, 1.
        offset: The log-odds where all of these are 0.
    """

    margin: float
    rival: float
    agreement: float
    retriever: float
    offset: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCurves:
    """The two curves of a set's confidence.

    Attributes:
        answered: The probability that the best span is right.
        abstained: The probability that no passage holds an answer.
    """

    answered: SetCurve
    abstained: SetCurve


@dataclass(frozen=True, slots=True, kw_only=True)
class SetConfidence:
    """The calibration of questions over several passages.

    Attributes:
        passages: How many passages a set had that it was fitted on.
        threshold: No answer when the best span's margin exceeds it.
        curves: What serves without retriever scores.
        with_retriever: What serves with them.
        fitted_on: What all of it was fitted on.
        ece: Expected calibration error of ``curves`` on the held-out questions, in [0, 1].
        guarantee: What the threshold promises; None where nothing was asked for.
    """

    passages: int
    threshold: float
    curves: SetCurves
    with_retriever: SetCurves
    fitted_on: FittedOn
    ece: float
    guarantee: Guarantee | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A threshold and curves that belong together: the bundle's general ones, or those of a domain.

    Attributes:
        no_answer: The threshold for "no answer" in one context.
        confidence: The confidence of one context's decision; None until calibrated.
        sets: The calibration of questions over several passages; None until calibrated.
    """

    no_answer: NoAnswer = NoAnswer()
    confidence: Confidence | None = None
    sets: SetConfidence | None = None

"""The gates that a variant has to pass beside PyTorch, on as many questions as they can be judged on."""

from __future__ import annotations

from dataclasses import dataclass

from fastspan.benchmarks.parity.figures import VariantParity

__all__ = ["ACCURACY_GATES", "FEWEST_FOR_F1", "AccuracyGate", "Demand", "held_against"]

FEWEST_FOR_F1 = 2000
"""Questions from which on F1 is held against its gate. On a few hundred, one answer is the whole gate: of 367
questions each is worth 0.27 points."""


@dataclass(frozen=True, slots=True)
class Demand:
    """One thing a gate asks for.

    Attributes:
        wanted: What, for people.
        found: What was measured, for people.
        passed: Whether it was met; None: not judged, for too few questions were asked.
    """

    wanted: str
    found: str
    passed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyGate:
    """What a variant must reach; None where it is not asked.

    Attributes:
        equal_answers: Smallest share of equal answers.
        f1_within: Largest distance of F1 from fp32's, in points; judged on ``FEWEST_FOR_F1`` questions
            or more.
        logits_within: Largest difference of a logit.
        null_scores_within: Largest difference of a null score.
    """

    equal_answers: float
    f1_within: float | None = None
    logits_within: float | None = None
    null_scores_within: float | None = None


ACCURACY_GATES = {
    "fp32": AccuracyGate(equal_answers=1.0, logits_within=1e-4, null_scores_within=1e-4),
    "fp16": AccuracyGate(equal_answers=0.997, f1_within=0.05),
    "int8": AccuracyGate(equal_answers=0.97, f1_within=0.3),
}


def held_against(
    gate: AccuracyGate, parity: VariantParity, fp32_f1: float, questions: int
) -> tuple[Demand, ...]:
    """Hold a variant against its gate, demand by demand.

    Args:
        gate: What is asked.
        parity: What was measured.
        fp32_f1: F1 of fp32 at the same threshold, in percent.
        questions: How many questions were asked.
    """
    judged = parity.agreements[0]
    demands = [
        Demand(
            "all answers equal"
            if gate.equal_answers == 1
            else f"at least {gate.equal_answers:.1%} equal answers",
            f"{judged.equal_answers:.2%}, {parity.differing} differ",
            judged.equal_answers >= gate.equal_answers,
        )
    ]
    if gate.f1_within is not None:
        apart = abs(judged.f1 - fp32_f1)
        demands.append(
            Demand(
                f"F1 within {gate.f1_within:g} points of fp32's",
                f"{apart:.3f}",
                apart <= gate.f1_within if questions >= FEWEST_FOR_F1 else None,
            )
        )
    limits = (
        ("logits within {:g}", gate.logits_within, parity.largest_difference, "{:.2g}"),
        ("null scores within {:g}", gate.null_scores_within, parity.null_score_difference, "{:.2g}"),
    )
    demands += [
        Demand(wanted.format(limit), style.format(found), found <= limit)
        for wanted, limit, found, style in limits
        if limit is not None
    ]
    return tuple(demands)

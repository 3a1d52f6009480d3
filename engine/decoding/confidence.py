"""How sure a prediction is: from its margin to the probability that what was decided is right."""

from __future__ import annotations

import math
from typing import Protocol

__all__ = ["Calibration", "decision_confidence"]


class Calibration(Protocol):
    """Two logistic curves over x = best span score − null score (Platt, 1999), each scale · x + offset.

    They are two because they do not add up to 1: an answer given to an answerable question may be wrong.
    """

    @property
    def answered_scale(self) -> float:
        """Slope of the log-odds that the best span is right."""

    @property
    def answered_offset(self) -> float:
        """The log-odds that the best span is right, where it scores as much as "no answer"."""

    @property
    def abstained_scale(self) -> float:
        """Slope of the log-odds that the context holds no answer."""

    @property
    def abstained_offset(self) -> float:
        """The log-odds that the context holds no answer, where the best span scores as much as that."""


def decision_confidence(
    margin: float, threshold: float, calibration: Calibration | None, *, answered: bool
) -> float:
    """Return the probability, in [0, 1], that the decision is right.

    With a calibration, sigmoid(offset − scale · margin), on the curve that the decision chooses. Without one,
    sigmoid(threshold − margin) for an answer and sigmoid(margin − threshold) for none: it rises with the
    distance from the threshold, but is no frequency.

    Args:
        margin: Null score − best span score; not finite where the context holds no span, and then surely no
            answer.
        threshold: Where "no answer" begins, in units of the margin.
        calibration: The curves, or None.
        answered: Whether the decision is an answer.
    """
    if not margin < math.inf:
        return 0.0 if answered else 1.0
    if calibration is None:
        return _sigmoid(threshold - margin if answered else margin - threshold)
    if answered:
        return _sigmoid(calibration.answered_offset - calibration.answered_scale * margin)
    return _sigmoid(calibration.abstained_offset - calibration.abstained_scale * margin)


def _sigmoid(log_odds: float) -> float:
    # The exponential of more than about 709 overflows; below −700 the sigmoid is 0 to 300 digits.
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0

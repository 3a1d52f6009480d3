"""How sure a reading of several passages is: what is seen of the set, and the curve over it.

One passage's confidence does not hold for a set: of ten margins the best is high by chance alone. What helps
beside it is whether another text comes close, whether other passages say the same, and what the retriever
thought of the passage (as in Clark and Gardner, "Simple and Effective Multi-Paragraph Reading Comprehension",
2018, margins of passages are compared without normalizing each by itself).
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

from fastspan.bundle.beside.calibrations import SetConfidence
from fastspan.results import Reading

__all__ = ["SetFeatures", "normalized", "retriever_place", "set_confidence"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFeatures:
    """What is seen of a question's passages once their spans are ranked.

    Attributes:
        margin: Null score − score of the best span, in its passage; not finite where no passage holds a span.
        rival: ``exp(margin − the rival's margin)``, in [0, 1]: 1 where another text is as good, 0 without
            another.
        agreeing: How many other passages have the best span's text as their own best.
        retriever: Where the best span's passage stands between the lowest retriever score, 0, and the
            highest, 1; None where no scores were given.
    """

    margin: float
    rival: float
    agreeing: int
    retriever: float | None

    @classmethod
    def of(cls, reading: Reading, retriever_scores: Sequence[float] | None) -> SetFeatures:
        """Return those of a reading.

        Args:
            reading: The spans, ranked.
            retriever_scores: One a passage, or None.
        """
        place = None
        if retriever_scores is not None and reading.answers:
            place = retriever_place(retriever_scores, reading.answers[0].passage)
        return cls(
            margin=reading.margin,
            rival=math.exp(min(0.0, reading.margin - reading.rival_margin)) if reading.answers else 0.0,
            agreeing=reading.agreeing,
            retriever=place,
        )

    def row(self) -> tuple[float, float, float, float]:
        """Return them in the order and units of a curve's weights: margin, rival, agreement, retriever."""
        return -self.margin, self.rival, math.log1p(self.agreeing), self.retriever or 0.0


def normalized(text: str) -> str:
    """Return a text as SQuAD compares answers: lower case, without ASCII punctuation and English articles."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def retriever_place(scores: Sequence[float], passage: int) -> float:
    """Return where one of several scores stands between the lowest, 0, and the highest, 1; 1 of equals."""
    low, high = min(scores), max(scores)
    # Halves, so that the difference of the largest floats does not overflow.
    return (scores[passage] / 2 - low / 2) / (high / 2 - low / 2) if high > low else 1.0


def set_confidence(features: SetFeatures, calibration: SetConfidence, *, answered: bool) -> float:
    """Return the probability, in [0, 1], that the decision over a set of passages is right.

    Args:
        features: What was seen.
        calibration: The curves; those for retriever scores serve where there are some.
        answered: Whether the decision is an answer.
    """
    if not features.margin < math.inf:
        return 0.0 if answered else 1.0
    curves = calibration.curves if features.retriever is None else calibration.with_retriever
    curve = curves.answered if answered else curves.abstained
    weights = (curve.margin, curve.rival, curve.agreement, curve.retriever)
    log_odds = curve.offset + sum(weight * seen for weight, seen in zip(weights, features.row(), strict=True))
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0

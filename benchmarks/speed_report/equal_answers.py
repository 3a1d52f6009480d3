"""How many of a system's answers are those that it gives itself in fp32: what its lower precision costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fastspan.benchmarks.intervals import share_interval
from fastspan.benchmarks.peers.catalogue import OURS
from fastspan.benchmarks.reporting.document import NONE
from fastspan.benchmarks.reporting.html import BELOW
from fastspan.benchmarks.speed.record import MeasuredPeer
from fastspan.benchmarks.speed.samples import Measured

__all__ = ["FEWEST_EQUAL", "EqualAnswers", "Shares", "equal_answers", "share_cell"]

FEWEST_EQUAL = 0.97
"""A system that gives fewer of its fp32 answers is marked: its speed is not at equal accuracy."""

# Where a system's own fp32 was not measured: one that encodes and decodes with the same code.
_SAME_DECODING = {"optimum": "transformers", "OpenVINO": OURS}


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualAnswers:
    """A system's answers beside those of its fp32.

    Attributes:
        reference: The name of the fp32 system.
        questions: How many both answered.
        equal: To how many of them both gave the same text, or no answer.
        is_reference: Whether the system is that fp32 system itself.
    """

    reference: str
    questions: int
    equal: int
    is_reference: bool = False

    @property
    def share(self) -> float:
        """The share of equal answers, in [0, 1]."""
        return self.equal / self.questions

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% interval; of no width for the reference, which was compared with itself."""
        if self.is_reference:
            return self.share, self.share
        low, high = share_interval(np.array([self.share]), np.array([self.questions]))
        return float(low[0]), float(high[0])

    @property
    def enough(self) -> bool:
        """Whether the share is at least ``FEWEST_EQUAL``."""
        return self.share >= FEWEST_EQUAL


Shares = Mapping[tuple[str, str, str], EqualAnswers]
"""(model, system, variant) → its equal answers, for those that could be compared."""


def equal_answers(measured: Measured) -> Shares:
    """Compare every system that answered off the clock with its own fp32."""
    asked = [peer for peer in measured.record.peers if (peer.model, peer.name) in measured.answered]
    found = {}
    for peer in asked:
        reference = _reference(peer, [other for other in asked if other.model == peer.model])
        if reference is None:
            continue
        given, expected = (
            measured.answered[peer.model, name].digests for name in (peer.name, reference.name)
        )
        if len(given) == len(expected) > 0:
            found[peer.model, peer.system, peer.variant] = EqualAnswers(
                reference=reference.name,
                questions=len(given),
                equal=sum(one == other for one, other in zip(given, expected, strict=True)),
                is_reference=reference is peer,
            )
    return found


def share_cell(equal: EqualAnswers | None) -> str:
    """Write a share for a table, marked where it is too small."""
    if equal is None:
        return NONE
    return f"{equal.share:.1%}" + ("" if equal.enough else f" {BELOW}")


def _reference(peer: MeasuredPeer, others: list[MeasuredPeer]) -> MeasuredPeer | None:
    """The system's own fp32, on the same provider where it names one; else one that decodes alike."""
    names = [(peer.system, "fp32"), (peer.system, " ".join(["fp32", *peer.variant.split()[1:]]))]
    if peer.system in _SAME_DECODING:
        names.append((_SAME_DECODING[peer.system], "fp32"))
    by_name = {(other.system, other.variant): other for other in reversed(others)}
    return next((by_name[name] for name in names if name in by_name), None)

"""How far what is answered now lies from what a bundle was calibrated on, by its confidence."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

__all__ = ["Drift"]

_TENTHS = 10

# So many answers tell their shares to a few hundredths.
_COMPARED = 500


class Drift:
    """Compares the confidences of the latest answers with those that are expected, tenth by tenth.

    The distance is half the sum of the differences between shares (the total variation distance): the share
    of the answers that would have to be of another tenth for both to be alike.

    Args:
        expected: Of how many questions the confidence lay in each tenth of [0, 1], when the bundle was
            calibrated. None: the first answers are what later ones are compared with.
    """

    def __init__(self, expected: Sequence[int] | None = None) -> None:
        self._expected = None if expected is None else _shares(expected)
        self._latest: deque[int] = deque()
        self._counts = [0] * _TENTHS

    def add(self, confidence: float) -> None:
        """Take the confidence of an answer, in [0, 1]."""
        tenth = min(int(_TENTHS * confidence), _TENTHS - 1)
        self._latest.append(tenth)
        self._counts[tenth] += 1
        if len(self._latest) <= _COMPARED:
            return
        if self._expected is None:
            # The one that came after them is the first of the latest.
            self._counts[tenth] -= 1
            self._expected = _shares(self._counts)
            self._latest = deque([tenth])
            self._counts = [int(place == tenth) for place in range(_TENTHS)]
        else:
            self._counts[self._latest.popleft()] -= 1

    def distance(self) -> float | None:
        """Return the distance, in [0, 1]; None: there are not enough answers yet."""
        if self._expected is None or len(self._latest) < _COMPARED:
            return None
        return sum(abs(a - b) for a, b in zip(_shares(self._counts), self._expected, strict=True)) / 2


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total for count in counts]

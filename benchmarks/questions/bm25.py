"""Which passages share most words with a question: BM25, to hide a passage among others like it.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), equation 3.15, with
Lucene's inverse document frequency, which is never negative. Words are runs of letters and digits in lower
case; nothing is stemmed and nothing left out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastspan.errors import DataError

__all__ = ["Bm25"]

_WORD = re.compile(r"\w+")


class Bm25:
    """An index of passages.

    Args:
        passages: The passages, at least one.
        k1: How soon further occurrences of a word count for less.
        b: How much long passages are held back, from 0 to 1.

    Raises:
        DataError: There are no passages.
    """

    def __init__(self, passages: Sequence[str], *, k1: float = 1.2, b: float = 0.75) -> None:
        if not passages:
            raise DataError("There are no passages to search.")
        counts = [Counter(_words(passage)) for passage in passages]
        lengths = np.array([sum(words.values()) for words in counts], np.float64)
        held_back = k1 * (1 - b + b * lengths / max(1.0, float(lengths.mean())))
        holding = Counter(word for words in counts for word in words)
        self._count = len(passages)
        # For each word, the passages that hold it and what it adds to their scores.
        self._weights: dict[str, tuple[list[int], list[float]]] = {word: ([], []) for word in holding}
        for number, words in enumerate(counts):
            for word, times in words.items():
                rarity = math.log(1 + (len(passages) - holding[word] + 0.5) / (holding[word] + 0.5))
                numbers, weights = self._weights[word]
                numbers.append(number)
                weights.append(rarity * times * (k1 + 1) / (times + float(held_back[number])))

    def scores(self, question: str) -> NDArray[np.float64]:
        """Return the score of every passage, 0 where no word is shared. *Shape:* ``(passages,)``."""
        found = np.zeros(self._count)
        for word in set(_words(question)):
            numbers, weights = self._weights.get(word, ([], []))
            found[numbers] += weights
        return found

    def best(self, question: str, count: int) -> list[int]:
        """Return the ``count`` passages of highest score, best first; of equals the first.

        Args:
            question: What is asked.
            count: How many; all of them where there are fewer.
        """
        order: list[int] = np.argsort(-self.scores(question), kind="stable")[:count].tolist()
        return order


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())

"""Contexts that were asked about of late, tokenized.

What a service is asked about a document seldom comes in one request, and to tokenize a context takes far
longer than to tokenize a question.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace

from fastspan.text.encoder import EncodedPair

__all__ = ["RecentContexts"]

# Each takes some 25 bytes with its share of a token and its offsets, so that all take 13 MB.
_CHARACTERS = 500_000
# What a context takes beside them counts as so many more: else those of a letter would take hundreds of MB.
_BESIDE = 40
# None may drive out many others.
_LONGEST = _CHARACTERS // 10


class RecentContexts:
    """Keeps the contexts that were used last, ``characters`` of all together. For several threads at once.

    Args:
        characters: How many code points are kept at most. Each context counts as some more than it has.
    """

    def __init__(self, characters: int = _CHARACTERS) -> None:
        self._most = characters
        self._held = 0
        self._kept: OrderedDict[str, EncodedPair] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, context: object) -> EncodedPair | None:
        """Return a pair of this context, without windows; None: there is none, or it is no text at all."""
        if not isinstance(context, str):
            return None
        with self._lock:
            pair = self._kept.get(context)
            if pair is not None:
                self._kept.move_to_end(context)
            return pair

    def keep(self, pair: EncodedPair) -> None:
        """Keep the context of a pair, and drop what was not used for longest."""
        if len(pair.context) > _LONGEST:
            return
        with self._lock:
            if pair.context not in self._kept:
                self._held += len(pair.context) + _BESIDE
            # Its windows hold the question, which does not come again.
            self._kept[pair.context] = replace(pair, windows=())
            self._kept.move_to_end(pair.context)
            while self._held > self._most:
                oldest, _ = self._kept.popitem(last=False)
                self._held -= len(oldest) + _BESIDE

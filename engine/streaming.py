"""Any number of pairs, answered chunk by chunk in the order they came."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from fastspan.encoding import EncodedPair
from fastspan.errors import InputError
from fastspan.types import Prediction

__all__ = ["stream"]

Started = TypeVar("Started")
Texts = Sequence[tuple[str, str]]
Encode = Callable[[Texts, int], list[EncodedPair]]

# Pairs that are encoded, run and decoded together: enough for the tokenizer's threads and for windows of
# equal length to meet, few enough that memory stays small and the first answers come soon.
_CHUNK = 64


def stream(
    pairs: Iterator[tuple[str, str]],
    encode: Encode,
    start: Callable[[Sequence[EncodedPair]], Started],
    finish: Callable[[Started], Sequence[Prediction]],
    *,
    ahead: int,
) -> Iterator[Prediction]:
    """Answer pairs in their order, reading no more of them than the answers that are taken need.

    Args:
        pairs: Tuples of question and context.
        encode: Given a chunk of them and the position of its first, encodes it or raises InputError.
        start: Starts a chunk's runs.
        finish: Waits for them and decodes.
        ahead: How many chunks are encoded and started while an earlier one still runs.

    Raises:
        InputError: A pair is unusable; every pair before it has been answered by then.
    """
    started: deque[Started] = deque()
    position = 0
    fault: InputError | None = None
    while fault is None and (texts := list(itertools.islice(pairs, _CHUNK))):
        try:
            encoded = encode(texts, position)
        except InputError:
            encoded, fault = _before_the_fault(texts, encode, position)
        position += len(texts)
        if encoded:
            started.append(start(encoded))
        while len(started) > ahead:
            yield from finish(started.popleft())
    while started:
        yield from finish(started.popleft())
    if fault is not None:
        raise fault


def _before_the_fault(
    texts: Texts, encode: Encode, position: int
) -> tuple[list[EncodedPair], InputError | None]:
    """The pairs before the first that cannot be used, and what is wrong with that one."""
    good: list[EncodedPair] = []
    for index, pair in enumerate(texts, position):
        try:
            good += encode([pair], index)
        except InputError as error:
            return good, error
    return good, None

"""Any number of pairs, answered chunk by chunk in the order they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fastspan.errors import InputError
from fastspan.results import Prediction
from fastspan.runtime.workers import Runs
from fastspan.text.encoder import EncodedPair

__all__ = ["CHUNK", "GPU_CHUNK", "Stages", "stream"]

Texts = Sequence[tuple[str, str]]

CHUNK = 64
"""Pairs that are encoded, run and decoded together on a CPU: enough for the tokenizer's threads and for
windows of equal length to meet, few enough that memory stays small and the first answers come soon."""

GPU_CHUNK = 256
"""The same on a GPU, whose batches of thousands of tokens take more pairs to fill."""

# A chunk ends early once its texts hold so many characters: memory stays bounded, however long they are.
_CHUNK_CHARACTERS = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What is done with a chunk.

    Attributes:
        encode: Given a chunk, the position of its first pair and the pair encoded last before it, encodes it
            or raises InputError.
        start: Starts a chunk's runs.
        finish: Waits for them and decodes.
    """

    encode: Callable[[Texts, int, EncodedPair | None], list[EncodedPair]]
    start: Callable[[Sequence[EncodedPair]], Runs]
    finish: Callable[[Runs], Sequence[Prediction]]


def stream(
    pairs: Iterator[tuple[str, str]], stages: Stages, *, chunk: int, ahead: int
) -> Iterator[Prediction]:
    """Answer pairs in their order, reading no more of them than the answers that are taken need.

    Args:
        pairs: Tuples of question and context.
        stages: What is done with a chunk of them.
        chunk: Most pairs in a chunk.
        ahead: How many chunks are encoded and started while an earlier one still runs. Once the iterator is
            closed or dropped, those of their runs that have not begun never do.

    Raises:
        InputError: A pair is unusable; every pair before it has been answered by then.
    """
    started: deque[Runs] = deque()
    position = 0
    last: EncodedPair | None = None
    fault: InputError | None = None
    try:
        while fault is None and (texts := _next_chunk(pairs, chunk)):
            try:
                encoded = stages.encode(texts, position, last)
            except InputError:
                encoded, fault = _before_the_fault(texts, stages, position, last)
            position += len(texts)
            if encoded:
                last = encoded[-1]
                started.append(stages.start(encoded))
            while len(started) > ahead:
                yield from stages.finish(started.popleft())
        while started:
            yield from stages.finish(started.popleft())
    finally:
        for runs in started:
            runs.cancel()
    if fault is not None:
        raise fault


def _next_chunk(pairs: Iterator[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    chunk: list[tuple[str, str]] = []
    characters = 0
    while len(chunk) < most and characters < _CHUNK_CHARACTERS:
        try:
            pair = next(pairs)
        except StopIteration:
            break
        chunk.append(pair)
        # What is no pair of strings is refused when it is encoded.
        if isinstance(pair, tuple | list):
            characters += sum(len(text) for text in pair if isinstance(text, str))
    return chunk


def _before_the_fault(
    texts: Texts, stages: Stages, position: int, last: EncodedPair | None
) -> tuple[list[EncodedPair], InputError | None]:
    """The pairs before the first that cannot be used, and what is wrong with that one."""
    good: list[EncodedPair] = []
    for index, pair in enumerate(texts, position):
        try:
            good += stages.encode([pair], index, good[-1] if good else last)
        except InputError as error:
            return good, error
    return good, None

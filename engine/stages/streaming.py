"""Any number of pairs, or of questions with passages, answered chunk by chunk in the order they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar, get_args

from fastspan.errors import InputError
from fastspan.options import shown

__all__ = ["CHUNK", "GPU_CHUNK", "ChunkStages", "OnError", "check_on_error", "stream"]

Given = TypeVar("Given")
Encoded = TypeVar("Encoded")
Outcome = TypeVar("Outcome")
Started = TypeVar("Started", bound="Cancellable")


class Cancellable(Protocol):
    """Runs under way."""

    def cancel(self) -> None:
        """Drop those that have not begun."""


OnError = Literal["raise", "yield"]
"""What ``answer_many`` does with a pair that cannot be used."""

CHUNK = 64
"""Pairs that are encoded, run and decoded together on a CPU: enough for the tokenizer's threads and for
windows of equal length to meet, few enough that memory stays small and the first answers come soon."""

GPU_CHUNK = 256
"""The same on a GPU, whose batches of thousands of tokens take more pairs to fill."""

# A chunk ends early once its texts hold so many characters: memory stays bounded, however long they are.
_CHUNK_CHARACTERS = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkStages(Generic[Given, Encoded, Started, Outcome]):
    """What is done with a chunk.

    Attributes:
        encode: Given a chunk, the position of its first pair and the pair encoded last before it, encodes it
            or raises InputError.
        start: Starts a chunk's runs.
        finish: Waits for them and decodes: one result a pair.
    """

    encode: Callable[[Sequence[Given], int, Encoded | None], list[Encoded]]
    start: Callable[[Sequence[Encoded]], Started]
    finish: Callable[[Started], Sequence[Outcome]]


def stream(
    pairs: Iterator[Given],
    stages: ChunkStages[Given, Encoded, Started, Outcome],
    *,
    chunk: int,
    ahead: int,
    on_error: OnError = "raise",
) -> Iterator[Outcome | InputError]:
    """Answer pairs in their order, reading no more of them than the answers that are taken need.

    Args:
        pairs: Tuples of question and context, or whatever else ``stages`` takes.
        stages: What is done with a chunk of them.
        chunk: Most pairs in a chunk.
        ahead: How many chunks are encoded and started while an earlier one still runs. Once the iterator is
            closed or dropped, those of their runs that have not begun never do.
        on_error: ``"raise"``: the first pair that cannot be used ends the stream. ``"yield"``: its error
            takes the place of its prediction, and the others are answered.

    Raises:
        InputError: A pair is unusable; every pair before it has been answered by then.
        Exception: What ``pairs`` raised; every pair before has been answered by then.
    """
    started: deque[_Chunk[Encoded, Started]] = deque()
    position = 0
    last: Encoded | None = None
    end: Exception | None = None
    try:
        while end is None:
            texts, end = _next_chunk(pairs, chunk)
            if not texts:
                break
            encoded = _encode(texts, stages, position, last, on_error)
            position += len(texts)
            if on_error == "raise" and isinstance(bad := encoded[-1], InputError):
                end = bad
                encoded.pop()
            good = [pair for pair in encoded if not isinstance(pair, InputError)]
            last = good[-1] if good else last
            started.append(_Chunk(encoded, stages.start(good) if good else None))
            while len(started) > ahead:
                yield from _finish(started.popleft(), stages)
        while started:
            yield from _finish(started.popleft(), stages)
    finally:
        for waiting in started:
            if waiting.runs is not None:
                waiting.runs.cancel()
    if end is not None:
        raise end


def check_on_error(on_error: object) -> None:
    """Refuse what is none of the two.

    Raises:
        InputError: It is neither.
    """
    if on_error not in get_args(OnError):
        raise InputError(f"on_error must be 'raise' or 'yield', not {shown(on_error)}.")


@dataclass(frozen=True, slots=True)
class _Chunk(Generic[Encoded, Started]):
    """A chunk under way: its pairs, an error for each that is unusable, and the runs of the others."""

    pairs: Sequence[Encoded | InputError]
    runs: Started | None


def _finish(
    chunk: _Chunk[Encoded, Started], stages: ChunkStages[Given, Encoded, Started, Outcome]
) -> Iterator[Outcome | InputError]:
    results = iter(stages.finish(chunk.runs)) if chunk.runs is not None else iter(())
    for pair in chunk.pairs:
        yield pair if isinstance(pair, InputError) else next(results)


def _next_chunk(pairs: Iterator[Given], most: int) -> tuple[list[Given], Exception | None]:
    """Return the next pairs, and what their iterator raised instead of one more."""
    chunk: list[Given] = []
    characters = 0
    while len(chunk) < most and characters < _CHUNK_CHARACTERS:
        try:
            pair = next(pairs)
        except StopIteration:
            break
        except Exception as error:  # noqa: BLE001 - raised again once what came before is answered
            return chunk, error
        chunk.append(pair)
        characters += _characters(pair)
    return chunk, None


def _characters(given: object) -> int:
    """Count the characters of strings within tuples and lists; what is none is refused when it is encoded."""
    if isinstance(given, str):
        return len(given)
    return sum(map(_characters, given)) if isinstance(given, tuple | list) else 0


def _encode(
    texts: Sequence[Given],
    stages: ChunkStages[Given, Encoded, Started, Outcome],
    position: int,
    last: Encoded | None,
    on_error: OnError,
) -> list[Encoded | InputError]:
    """Encode a chunk; an error stands in the place of a pair that cannot be used, and may be the last."""
    try:
        return [*stages.encode(texts, position, last)]
    except InputError:
        found: list[Encoded | InputError] = []
    for index, pair in enumerate(texts, position):
        try:
            (encoded,) = stages.encode([pair], index, last)
            found.append(encoded)
            last = encoded
        except InputError as error:
            found.append(error)
            if on_error == "raise":
                break
    return found

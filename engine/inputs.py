"""What callers hand over, checked before any work is done."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastspan.config import is_number, shown
from fastspan.encoding import check_pair
from fastspan.errors import InputError

__all__ = ["columns", "deadline_in"]


def columns(texts: Sequence[object], first_index: int | None) -> tuple[list[str], list[str]]:
    """Split pairs into questions and contexts.

    Args:
        texts: Tuples of question and context.
        first_index: Position of the first pair in the caller's list, for messages; None for a lone pair.

    Raises:
        InputError: One is no pair of strings, or its question is blank; the message names it.
    """
    questions: list[str] = []
    contexts: list[str] = []
    for number, pair in enumerate(texts):
        index = None if first_index is None else first_index + number
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            size = f" of {len(pair)}" if isinstance(pair, tuple | list) else ""
            raise InputError(
                f"pairs[{index}] must be a tuple of question and context, not a {type(pair).__name__}{size}."
            )
        check_pair(pair[0], pair[1], index)
        questions.append(pair[0])
        contexts.append(pair[1])
    return questions, contexts


def deadline_in(timeout: float | None) -> float | None:
    """Return when a call gives up, on ``time.monotonic``'s clock.

    Args:
        timeout: Seconds from now; None: never.

    Raises:
        InputError: It is no number, or none that a float can hold.
    """
    if timeout is None:
        return None
    if not is_number(timeout):
        raise InputError(f"timeout must be a number of seconds or None, not {shown(timeout)}.")
    return time.monotonic() + timeout

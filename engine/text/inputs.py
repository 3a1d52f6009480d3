"""Questions and contexts, checked before any work is done."""

from __future__ import annotations

from collections.abc import Sequence

from fastspan.errors import InputError

__all__ = ["argument_name", "check_pair", "columns"]


def columns(texts: Sequence[object], first_index: int | None) -> tuple[list[str], list[str]]:
    """Split pairs into questions and contexts.

    Args:
        texts: Tuples of question and context.
        first_index: Position of the first pair in the caller's list, for messages; None for a lone pair.

    Raises:
        InputError: One is no pair; the message names it.
    """
    questions: list[str] = []
    contexts: list[str] = []
    for number, pair in enumerate(texts):
        index = None if first_index is None else first_index + number
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            size = f" of {len(pair)}" if isinstance(pair, tuple | list) else ""
            raise InputError(
                f"pairs[{index}] must be a tuple of question and context, not a {type(pair).__name__}{size}.",
                index=index,
            )
        questions.append(pair[0])
        contexts.append(pair[1])
    return questions, contexts


def argument_name(argument: str, index: int | None) -> str:
    """Return how messages name an argument: ``question``, or ``questions[3]`` in a list."""
    return argument if index is None else f"{argument}s[{index}]"


def check_pair(question: object, context: object, index: int | None = None) -> None:
    """Refuse a question or context that cannot be used. An empty context can: it answers nothing.

    Args:
        question: Should be a string that is not blank.
        context: Should be a string.
        index: Position of the pair in the caller's list, for the message; None for a lone pair.

    Raises:
        InputError: One is not a string, or the question is blank. The message names it ``question`` or
            ``context``, or with an ``index`` ``questions[index]`` or ``contexts[index]``.
    """
    for argument, text in (("question", question), ("context", context)):
        if not isinstance(text, str):
            name = argument_name(argument, index)
            raise InputError(f"{name} must be a string, not {type(text).__name__}.", index=index)
    if not str(question).strip():
        name = argument_name("question", index)
        raise InputError(f"{name} is {'blank' if question else 'empty'}; ask something.", index=index)

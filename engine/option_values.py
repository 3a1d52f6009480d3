"""Checks of single values that a caller gave, and how a message shows them."""

from __future__ import annotations

import math

from fastspan.errors import InputError

__all__ = ["flag", "is_number", "one_of", "shown", "text_or_none", "whole"]

_LARGEST_WHOLE = 2**63 - 1
_LONGEST_SHOWN = 80


def is_number(value: object) -> bool:
    """Whether a value is a number, infinite or not, that a float can hold. NaN is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return not math.isnan(value)
    except OverflowError:
        return False


def shown(value: object) -> str:
    """Return a value as a message shows it: like ``repr``, but never long."""
    try:
        text = repr(value)
    except ValueError:
        # Python refuses to write out a whole number of thousands of digits.
        return f"a {type(value).__name__} of too many digits"
    except RecursionError:
        return f"a {type(value).__name__} that nests too deeply to be shown"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def whole(name: str, value: object, least: int, most: int = _LARGEST_WHOLE) -> None:
    """Refuse what is no whole number from ``least`` to ``most``.

    Raises:
        InputError: It is none; the message names it.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} must be a whole number, not {type(value).__name__} ({shown(value)}).")
    if value < least:
        raise InputError(f"{name} must be at least {least}, not {shown(value)}.")
    if value > most:
        raise InputError(f"{name} must be at most {most}, not {shown(value)}.")


def flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        InputError: It is neither; the message names it.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} must be True or False, not {type(value).__name__} ({shown(value)}).")


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is none of ``choices``.

    Raises:
        InputError: It is none; the message names it.
    """
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} must be one of {', '.join(map(repr, choices))}, not {shown(value)}.")


def text_or_none(name: str, value: object) -> None:
    """Refuse what is neither a string nor None.

    Raises:
        InputError: The value is something else; the message names the option.
    """
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name} must be a string or None, not {type(value).__name__} ({shown(value)}).")

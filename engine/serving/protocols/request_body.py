"""What every JSON protocol asks of a body: one value, known keys, numbers worth computing with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fastspan.bundle.strict_json import parse
from fastspan.errors import InputError

__all__ = [
    "LARGEST_TOP_K",
    "TEXTS",
    "MalformedBodyError",
    "check_keys",
    "check_range",
    "json_object",
    "parse_body",
]


LARGEST_TOP_K = 100
"""More answers than anyone reads; without a limit, a small request could ask for gigabytes of candidates."""

_LARGEST_NUMBER = 2**31 - 1

TEXTS = ("question", "context")


class MalformedBodyError(InputError):
    """The body of a request is not one JSON value in UTF-8."""


def parse_body(body: bytes) -> object:
    """Return the JSON value of a body.

    Raises:
        MalformedBodyError: It is not one JSON value in UTF-8.
    """
    try:
        return parse(body)
    except ValueError as error:
        raise MalformedBodyError(f"The body is not JSON in UTF-8 ({error}).") from error


def json_object(value: object, name: str) -> dict[str, Any]:
    """Return ``value``, which must be a JSON object.

    Raises:
        InputError: It is another kind of value; the message calls it ``name``.
    """
    if not isinstance(value, dict):
        kinds = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
        raise InputError(f"{name} must be a JSON object, not {kinds.get(type(value), 'a number')}.")
    return value


def check_keys(
    value: Mapping[str, Any], name: str, *, required: Collection[str] = (), optional: Collection[str] = ()
) -> None:
    """Refuse an object that lacks a required key or holds an unknown one.

    Raises:
        InputError: The message names the keys.
    """
    missing = [key for key in required if key not in value]
    if missing:
        raise InputError(f"{name} lacks {' and '.join(missing)}.")
    known = (*required, *optional)
    unknown = [repr(key) for key in value if key not in known]
    if unknown:
        raise InputError(f"{name} may not hold {', '.join(unknown)}, only {', '.join(known)}.")


def check_range(options: Mapping[str, Any]) -> None:
    """Refuse numbers that a service had better not compute with; ``AnswerOptions`` checks the rest."""
    for name, value in options.items():
        largest = LARGEST_TOP_K if name == "top_k" else _LARGEST_NUMBER
        if isinstance(value, int) and value > largest:
            raise InputError(f"{name} may be {largest} at most.")
        if isinstance(value, int) and value < -_LARGEST_NUMBER:
            raise InputError(f"{name} may not be less than {-_LARGEST_NUMBER}.")

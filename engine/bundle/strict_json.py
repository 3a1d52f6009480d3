"""JSON into frozen dataclasses, strictly: the annotations of the dataclass are the schema.

What a file says is taken as it stands or refused: no key is guessed, no value is converted,
no key may stand twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from fastspan.errors import BundleError
from fastspan.options import shown

__all__ = ["decode", "named", "parse", "parse_object", "require"]

T = TypeVar("T")

_LARGEST_WHOLE = 2**63 - 1
_LONGEST_NAME = 200

_SCALARS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a string",
}


def parse(data: bytes) -> object:
    """Parse JSON as its standard has it.

    Args:
        data: The text, in UTF-8.

    Returns:
        What it says, as built-in types.

    Raises:
        ValueError: It is no JSON, repeats a key within an object, holds NaN or Infinity, or nests too
            deeply.
    """
    try:
        value: object = _DECODER.decode(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def parse_object(data: bytes, name: str) -> dict[str, object]:
    """Parse the bytes of a JSON file that holds one object.

    Args:
        data: The file's bytes, UTF-8.
        name: The file's name, for messages.

    Returns:
        The object, as built-in types.

    Raises:
        BundleError: The bytes are no JSON, hold no object, or repeat a key.
    """
    try:
        document = parse(data)
    except ValueError as error:
        raise BundleError(
            f"{name} is not readable JSON ({error}): copy the bundle again or export it again."
        ) from error
    if not isinstance(document, dict):
        raise _malformed(name, "must hold an object", document)
    return cast("dict[str, object]", document)


def decode(kind: type[T], value: object, *, where: str, ignore_unknown: bool = False) -> T:
    """Make a dataclass, and the dataclasses within it, from parsed JSON.

    Fields may be annotated with ``bool``, ``int``, ``float``, ``str``, a ``Literal``, a dataclass,
    ``X | None``, ``tuple[X, ...]`` (a JSON array) and ``Mapping[str, X]`` (a JSON object). A field that
    has a default may be missing.

    Args:
        kind: The dataclass.
        value: What ``json`` parsed.
        where: The path to the value, for messages.
        ignore_unknown: Leave out keys the dataclass does not have, instead of refusing them.

    Raises:
        BundleError: A key is missing or unknown, or a value has another type; the message names it.
    """
    return cast("T", _decode(kind, value, where, ignore_unknown))


def require(holds: bool, demand: str) -> None:
    """Refuse a manifest whose values do not go together.

    Raises:
        BundleError: ``holds`` is false; ``demand`` says what should hold.
    """
    if not holds:
        raise BundleError(f"The manifest contradicts itself, {demand}: export the checkpoint again.")


def named(text: str) -> str:
    """Return a name from a file as a message may hold it: cut, and escaped unless all of it is printable.

    A terminal obeys the control characters of what it is shown.
    """
    return text if text.isprintable() and len(text) <= _LONGEST_NAME else shown(text)


def _malformed(where: str, demand: str, value: object) -> BundleError:
    return BundleError(f"{where} {demand}, not {shown(value)}: copy the bundle again or export it again.")


def _decode(kind: Any, value: object, where: str, ignore_unknown: bool) -> object:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        (kind,) = (argument for argument in arguments if argument is not NoneType)
        return _decode(kind, value, where, ignore_unknown)
    if origin is Literal:
        if value not in arguments:
            raise _malformed(where, f"must be one of {', '.join(map(repr, arguments))}", value)
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _malformed(where, "must be an array", value)
        return tuple(
            _decode(arguments[0], item, f"{where}[{index}]", ignore_unknown)
            for index, item in enumerate(value)
        )
    if origin is Mapping:
        return {
            key: _decode(arguments[1], item, f"{where}[{shown(key)}]", ignore_unknown)
            for key, item in _object(value, where).items()
        }
    if is_dataclass(kind):
        return _decode_fields(kind, _object(value, where), where, ignore_unknown)
    return _scalar(kind, value, where)


def _object(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _malformed(where, "must be an object", value)
    return value


def _decode_fields(kind: Any, value: dict[str, object], where: str, ignore_unknown: bool) -> object:
    kinds = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    for key in value:
        if key not in known and not ignore_unknown:
            raise _malformed(where, f"has the keys {', '.join(known)}", key)
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise BundleError(f"{where} lacks the key {name!r}: copy the bundle again or export it again.")
    return kind(
        **{
            name: _decode(kinds[name], value[name], f"{where}.{name}", ignore_unknown)
            for name in known
            if name in value
        }
    )


def _scalar(kind: Any, value: object, where: str) -> object:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        # JSON has one kind of number: 1 is how some writers spell 1.0.
        try:
            value = float(value)
        except OverflowError:
            raise _malformed(where, f"must be {_SCALARS[kind]}", value) from None
    # bool is a subclass of int, so the exact type is compared.
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise _malformed(where, f"must be {_SCALARS[kind]}", value)
    if isinstance(value, int) and abs(value) > _LARGEST_WHOLE:
        raise _malformed(where, f"must be {_SCALARS[int]} of at most 63 bits", value)
    return value

"""JSON documents changed at random places: what a file says when somebody else wrote it."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

__all__ = ["CHANGES", "VALUES", "bytes_of", "changed", "files", "mutated"]

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 2**31, 2**63, 10**400, -(10**4000)])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["\x1b[31mred", "a" * 100_000, "../x", "\ud800", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value within."""
    found = [path]
    if isinstance(document, dict):
        for key in list(document)[:12]:  # a vocabulary's words are all alike
            found += places(document[key], (*path, key))
    elif isinstance(document, list):
        for index in range(min(len(document), 4)):
            found += places(document[index], (*path, index))
    return found


def changed(document: Any, path: tuple[Any, ...], value: Any, how: str) -> Any:
    if not path:
        return value
    result = copy.deepcopy(document)
    place = result
    for key in path[:-1]:
        place = place[key]
    if how == "removed":
        del place[path[-1]]
    elif how == "added" and isinstance(place, dict):
        place[str(value)[:50]] = value
    else:
        place[path[-1]] = value
    return result


CHANGES = st.tuples(st.integers(0, 10**6), VALUES, st.sampled_from(["set", "set", "set", "removed", "added"]))


def mutated(document: Any, changes: list[tuple[int, Any, str]]) -> Any:
    for number, value, how in changes:
        paths = places(document)
        document = changed(document, paths[number % len(paths)], value, how)
    return document


def bytes_of(document: Any) -> bytes:
    return json.dumps(document).encode()


@st.composite
def files(draw: st.DrawFn, data: bytes) -> bytes:
    """A true file of JSON with a few of its values changed, a few of its bytes, or nothing of it left."""
    how = draw(st.sampled_from(["values", "values", "values", "bytes", "junk"]))
    if how == "junk":
        return draw(st.binary(max_size=50))
    if how == "values":
        return bytes_of(mutated(json.loads(data), draw(st.lists(CHANGES, min_size=1, max_size=2))))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=6)) + data[at + draw(st.integers(0, 6)) :]
    return data

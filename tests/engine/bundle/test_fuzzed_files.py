"""Whatever a bundle's files say, vouched for by its manifest, loading raises errors of ours alone."""

from __future__ import annotations

import copy
import json
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastspan import AnswerOptions, FastSpanError, QuestionAnswerer
from fastspan.bundle.manifest import MANIFEST, Manifest
from fastspan.text.encoder import Encoder
from support.forged_bundles import forge

LONGEST_MESSAGE = 2000

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


def apply(document: Any, changes: list[tuple[int, Any, str]]) -> Any:
    for number, value, how in changes:
        paths = places(document)
        document = changed(document, paths[number % len(paths)], value, how)
    return document


def check(error: FastSpanError) -> None:
    text = str(error)
    assert len(text) < LONGEST_MESSAGE, f"{len(text)} characters: {text[:500]}"
    assert "\x1b" not in text


SETTINGS = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SETTINGS
@given(changes=st.lists(CHANGES, min_size=1, max_size=2))
def test_a_manifest(tiny_bundle: Path, changes: list[tuple[int, Any, str]]) -> None:
    document = apply(json.loads((tiny_bundle / MANIFEST).read_bytes()), changes)
    if isinstance(document, dict):
        document["digest"] = "0" * 64
    data = json.dumps(document).encode()
    data = data.replace(b"0" * 64, sha256(data).hexdigest().encode())
    try:
        Manifest.from_json(data)
    except FastSpanError as error:
        check(error)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = forge(tiny_bundle, Path(place, "model"))
        (folder / MANIFEST).write_bytes(data)
        load_and_ask(folder)


@SETTINGS
@given(changes=st.lists(CHANGES, min_size=1, max_size=2), junk=st.none() | st.binary(max_size=50))
def test_a_configuration(tiny_bundle: Path, changes: list[tuple[int, Any, str]], junk: bytes | None) -> None:
    data = junk
    if data is None:
        data = json.dumps(apply(json.loads((tiny_bundle / "config.json").read_bytes()), changes)).encode()
    with tempfile.TemporaryDirectory() as place:
        load_and_ask(forge(tiny_bundle, Path(place, "model"), {"config.json": data}))


@SETTINGS
@given(changes=st.lists(CHANGES, min_size=1, max_size=2), junk=st.none() | st.binary(max_size=50))
def test_a_tokenizer(tiny_bundle: Path, changes: list[tuple[int, Any, str]], junk: bytes | None) -> None:
    data = junk
    if data is None:
        data = json.dumps(apply(json.loads((tiny_bundle / "tokenizer.json").read_bytes()), changes)).encode()
    try:
        encoder = Encoder.from_json(data, name="tokenizer.json", segment_ids=True, max_positions=512)
        encoder.encode(["who built it"], ["the norse built it"], AnswerOptions(max_length=64, overlap=16))
    except FastSpanError as error:
        check(error)


def load_and_ask(folder: Path) -> None:
    try:
        with QuestionAnswerer.load(folder, variant="fp32", threads=1) as qa:
            qa.answer("who built it", "the norse built it")
    except FastSpanError as error:
        check(error)


@pytest.mark.parametrize("value", [10**400, "x" * 15_000_000, {"k" * 15_000_000: 1}, ["\x1b[2J"]])
@pytest.mark.parametrize(
    "path",
    [
        ("no_answer", "threshold"),
        ("files",),
        ("name",),
        ("variants", "fp32", "graphs", 0, "file"),
        ("format",),
    ],
)
def test_a_message_is_never_long(tiny_bundle: Path, path: tuple[Any, ...], value: Any) -> None:
    document = changed(json.loads((tiny_bundle / MANIFEST).read_bytes()), path, value, "set")
    document["digest"] = "0" * 64
    data = json.dumps(document).encode()
    try:
        Manifest.from_json(data.replace(b"0" * 64, sha256(data).hexdigest().encode()))
    except FastSpanError as error:
        check(error)

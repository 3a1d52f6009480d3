"""Whatever a bundle's files say, vouched for by its manifest, loading raises errors of ours alone."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastspan import AnswerOptions, BundleError, FastSpanError, QuestionAnswerer
from fastspan.bundle.beside.machine_profile import (
    Profile,
    RunSettings,
    Tuned,
    find_profile,
    profile_path,
    this_machine,
)
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import MANIFEST, Manifest
from fastspan.text.encoder import Encoder
from support.bundles.forged_bundles import forge
from support.fuzzing import check_message, fuzzed, watched
from support.mutations import CHANGES, bytes_of, changed, files, mutated


def sealed(document: Any) -> bytes:
    """A manifest as its writer would have it, whatever it says."""
    if isinstance(document, dict):
        document["digest"] = "0" * 64
    data = bytes_of(document)
    return data.replace(b"0" * 64, sha256(data).hexdigest().encode())


@fuzzed(examples=80)
@given(changes=st.lists(CHANGES, min_size=1, max_size=2))
def test_a_manifest(tiny_bundle: Path, changes: list[tuple[int, Any, str]]) -> None:
    data = sealed(mutated(json.loads((tiny_bundle / MANIFEST).read_bytes()), changes))
    with tempfile.TemporaryDirectory() as place:
        folder = forge(tiny_bundle, Path(place, "model"))
        (folder / MANIFEST).write_bytes(data)
        load_and_ask(folder)


@fuzzed(examples=60)
@given(change=st.data())
def test_the_bytes_of_a_manifest(tiny_bundle: Path, change: st.DataObject) -> None:
    data = change.draw(files((tiny_bundle / MANIFEST).read_bytes()))
    try:
        Manifest.from_json(data)
    except FastSpanError as error:
        check_message(error)


@fuzzed(examples=80)
@given(change=st.data())
def test_a_configuration(tiny_bundle: Path, change: st.DataObject) -> None:
    data = change.draw(files((tiny_bundle / "config.json").read_bytes()))
    with tempfile.TemporaryDirectory() as place:
        load_and_ask(forge(tiny_bundle, Path(place, "model"), {"config.json": data}))


@fuzzed(examples=80)
@given(change=st.data())
def test_a_tokenizer(tiny_bundle: Path, change: st.DataObject) -> None:
    data = change.draw(files((tiny_bundle / "tokenizer.json").read_bytes()))
    try:
        with watched():
            encoder = Encoder.from_json(data, name="tokenizer.json", segment_ids=True, max_positions=512)
            encoder.encode(["who built it"], ["the norse built it"], AnswerOptions(max_length=64, overlap=16))
    except FastSpanError as error:
        check_message(error)


@fuzzed(examples=100)
@given(change=st.data())
def test_a_profile(tiny_bundle: Path, change: st.DataObject) -> None:
    settings = RunSettings(threads=1, workers=1, spinning=True, block_base=0, batch_tokens=1)
    bundle = Bundle.open(tiny_bundle)
    true = Profile(
        measured="2026-01-01",
        manifest=bundle.digest,
        machine=this_machine("1.23"),
        variants={"fp32": Tuned(latency=settings, throughput=settings)},
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "model")
        folder.symlink_to(tiny_bundle)
        profile_path(folder).write_bytes(change.draw(files(true.to_json())))
        # A profile never makes loading fail: whatever it says, it holds or is left aside.
        found = find_profile(replace(bundle, folder=folder), "1.23")
    check_message(BundleError(found.state))


def load_and_ask(folder: Path) -> None:
    try:
        with watched(), QuestionAnswerer.load(folder, variant="fp32", threads=1) as qa:
            qa.answer("who built it", "the norse built it")
    except FastSpanError as error:
        check_message(error)


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
    try:
        Manifest.from_json(sealed(document))
    except FastSpanError as error:
        check_message(error)

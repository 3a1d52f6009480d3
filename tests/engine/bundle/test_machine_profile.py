"""What was measured once is used where it holds, and never stands in the way."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from fastspan import BundleError, LoadOptions, QuestionAnswerer
from fastspan.bundle.beside.machine_profile import (
    Machine,
    Profile,
    RunSettings,
    Tuned,
    find_profile,
    profile_path,
    refuse_unwritable,
    this_machine,
)
from fastspan.bundle.folder import Bundle, sha256_of
from fastspan.bundle.manifest import MANIFEST
from fastspan.loading import load_bundle
from support.forced_cpu import forced_cores

RUNTIME = onnxruntime.__version__
LATENCY = RunSettings(threads=1, workers=1, spinning=True, block_base=4, batch_tokens=256)
THROUGHPUT = RunSettings(threads=2, workers=1, spinning=True, block_base=0, batch_tokens=256)
QUESTION, CONTEXT = "who built the tower", "the norse leader rollo built the stone tower by the river"


@pytest.fixture(autouse=True)
def two_cores() -> Iterator[None]:
    with forced_cores(2):
        yield


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of one's own, in a folder that nothing else lies in."""
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.fixture
def measured(folder: Path) -> Profile:
    return Profile(
        measured="2026-01-31",
        manifest=sha256_of(folder / MANIFEST),
        machine=this_machine(RUNTIME),
        variants={
            "fp32": Tuned(latency=LATENCY, throughput=THROUGHPUT),
            "int8": Tuned(latency=LATENCY, throughput=THROUGHPUT),
        },
    )


def loaded(folder: Path, **options: Any) -> tuple[RunSettings, str]:
    """The settings and the sentence that an answerer ends up with, having answered."""
    given = options.pop("options", LoadOptions())
    found = load_bundle(folder, None, given.override({"provider": "cpu", "variant": "fp32", **options}))
    settings, session = found.settings, found.session.settings
    with QuestionAnswerer(found) as qa:
        qa.answer(QUESTION, CONTEXT)
        assert qa.info().profile == found.profile
        assert qa.info().threads == settings.threads * settings.workers
    for name in ("threads", "spinning", "block_base", "spin_duration_us"):
        assert getattr(session, name) == getattr(settings, name)
    return settings, found.profile


# --- The file. ---


def test_what_is_written_is_what_is_found(folder: Path, measured: Profile) -> None:
    path = measured.write(folder)
    assert path == folder.parent / "bundle.tuned.json"
    assert Profile.from_json(path.read_bytes()) == measured
    found = find_profile(Bundle.open(folder), RUNTIME)
    assert found.profile == measured
    assert found.state == "bundle.tuned.json holds, measured on 2026-01-31 for fp32, int8."
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["bundle", "bundle.tuned.json"]
    Bundle.open(folder).verify_all()


def test_it_lies_beside_the_bundle_however_that_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = folder.parent / "bundle.tuned.json"
    monkeypatch.chdir(folder / "onnx")
    for spelled in (folder, Path(".."), folder / "onnx" / "..", Path("../../bundle")):
        assert profile_path(spelled) == expected
    link = folder.parent / "current"
    link.symlink_to(folder)
    assert profile_path(link) == folder.parent / "current.tuned.json"


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 0},
        {"workers": 0},
        {"threads": 2, "workers": 2},
        {"threads": 100_000},
        {"spinning": 1},
        {"block_base": -1},
        {"block_base": 10**9},
        {"batch_tokens": 0},
        {"spin_duration_us": 0},
        {"spin_duration_us": 10**9},
        {"spin_duration_us": "1000"},
        {"threads": "2"},
        {"more": 1},
    ],
)
def test_settings_that_no_machine_should_run_with_are_refused(measured: Profile, change: Any) -> None:
    document = json.loads(measured.to_json())
    document["variants"]["fp32"]["latency"].update(change)
    with pytest.raises(BundleError):
        Profile.from_json(json.dumps(document).encode())


def test_a_file_from_before_spinning_had_a_duration_is_read(measured: Profile) -> None:
    document = json.loads(measured.to_json())
    for tuned in document["variants"].values():
        del tuned["latency_cost"], tuned["throughput_cost"]
        del tuned["latency"]["spin_duration_us"], tuned["throughput"]["spin_duration_us"]
    assert Profile.from_json(json.dumps(document).encode()) == measured


# --- Whether it is used. ---


@pytest.mark.parametrize(
    ("runtime", "duration", "said"),
    [
        ("1.26.0", 1000, "for fp32."),
        ("1.25.1", None, "fp32, without spin_duration_us, which ONNX Runtime 1.25.1 does not know."),
    ],
)
def test_how_long_threads_spin_is_left_aside_where_the_runtime_does_not_know_it(
    folder: Path,
    measured: Profile,
    monkeypatch: pytest.MonkeyPatch,
    runtime: str,
    duration: int | None,
    said: str,
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", runtime)
    spinning = replace(LATENCY, threads=2, spin_duration_us=1000)
    tuned = {"fp32": Tuned(latency=spinning, throughput=THROUGHPUT)}
    replace(measured, machine=this_machine(runtime), variants=tuned).write(folder)
    settings, state = loaded(folder)
    assert settings == replace(spinning, spin_duration_us=duration)
    assert state.endswith(said)


def test_it_is_used_for_the_mode_it_was_measured_for(folder: Path, measured: Profile) -> None:
    before = loaded(folder)
    assert before[0] == RunSettings(threads=2, workers=1, spinning=True, block_base=0, batch_tokens=128)
    assert before[1].startswith("none: ")
    measured.write(folder)
    settings, state = loaded(folder)
    assert settings == LATENCY
    assert state == "in use: bundle.tuned.json holds, measured on 2026-01-31 for fp32, int8."
    assert loaded(folder, optimize_for="throughput")[0] == THROUGHPUT
    profile_path(folder).unlink()
    assert loaded(folder) == before


def test_an_answer_is_the_same_with_and_without_it(folder: Path, measured: Profile) -> None:
    pairs = [(QUESTION, f"{CONTEXT} {'snow ' * (i % 3)}") for i in range(20)]
    measured.write(folder)
    for mode in ("latency", "throughput"):
        found = []
        for used in (True, False):
            with QuestionAnswerer.load(folder, variant="int8", optimize_for=mode, profile=used) as qa:
                found.append(list(qa.answer_many(pairs)))
        assert found[0] == found[1]


def test_int8_windows_run_alone_whatever_the_file_says(folder: Path, measured: Profile) -> None:
    measured.write(folder)
    settings, _ = loaded(folder, variant="int8")
    assert settings == replace(LATENCY, batch_tokens=1)


@pytest.mark.parametrize(
    ("options", "expected", "said"),
    [
        ({"profile": False}, None, "profile=False was asked for"),
        ({"threads": 2}, None, "with 1 threads; 2 were asked for"),
        ({"threads": 1}, LATENCY, "in use"),
        ({"spinning": False}, replace(LATENCY, spinning=False), "in use"),
        ({"options": LoadOptions(variant="fp32", threads=2)}, None, "2 were asked for"),
        ({"optimize_for": "throughput", "threads": 2}, THROUGHPUT, "in use"),
        ({"optimize_for": "throughput", "threads": 1}, None, "with 2 threads; 1 were asked for"),
    ],
)
def test_what_is_asked_for_goes_before_it(
    folder: Path, measured: Profile, options: dict[str, Any], expected: RunSettings | None, said: str
) -> None:
    without, _ = loaded(folder, **options)
    measured.write(folder)
    settings, state = loaded(folder, **options)
    assert settings == (without if expected is None else expected)
    assert said in state


def test_a_variant_that_was_not_measured_runs_with_the_defaults(folder: Path, measured: Profile) -> None:
    replace(measured, variants={"int8": measured.variants["int8"]}).write(folder)
    settings, state = loaded(folder)
    assert settings.threads == 2
    assert state.endswith("for int8, not for fp32.")


def test_a_bundle_whose_manifest_changed_is_measured_anew(folder: Path, measured: Profile) -> None:
    replace(measured, manifest="0" * 64).write(folder)
    settings, state = loaded(folder)
    assert settings.threads == 2
    assert "the bundle has changed" in state
    assert "run `fastspan tune` again" in state


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cpu": "Another CPU"}, "another CPU, Another CPU"),
        ({"instruction_sets": ("mmx",)}, "another CPU"),
        ({"cores": 64}, "64 usable cores, and here are 2"),
        ({"onnxruntime": "1.0.0"}, f"ONNX Runtime 1.0.0, and {RUNTIME} is installed"),
    ],
)
def test_what_was_measured_elsewhere_is_left_aside(
    folder: Path, measured: Profile, change: dict[str, Any], said: str
) -> None:
    machine: Machine = replace(measured.machine, **change)
    replace(measured, machine=machine).write(folder)
    settings, state = loaded(folder)
    assert settings.threads == 2
    assert said in state


def nested(_: Profile) -> bytes:
    return b"[" * 100_000


@pytest.mark.parametrize(
    "content",
    [
        lambda _: b"",
        lambda _: b"\xff\xfe",
        lambda _: b"null",
        lambda _: b'{"format": 1}',
        nested,
        lambda measured: measured.to_json()[:-20],
        lambda measured: measured.to_json().replace(b'"format": 1', b'"format": 2'),
        lambda measured: measured.to_json().replace(b'"fp32"', b'"fp99"'),
        lambda measured: measured.to_json().replace(b'"threads": 1', b'"threads": 1e9'),
        lambda measured: measured.to_json() + b" " * (1 << 19),
    ],
)
def test_a_malformed_file_is_ignored_and_told(
    folder: Path, measured: Profile, content: Callable[[Profile], bytes]
) -> None:
    profile_path(folder).write_bytes(content(measured))
    settings, state = loaded(folder)
    assert settings.threads == 2
    assert state.startswith("bundle.tuned.json is ignored: ")


def test_what_is_no_file_is_ignored_and_told(folder: Path) -> None:
    path = profile_path(folder)
    for make in (path.mkdir, lambda: path.symlink_to("nowhere"), lambda: os.mkfifo(path)):
        make()
        assert loaded(folder)[1] == "bundle.tuned.json is ignored: it is not a file."
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_file_that_may_not_be_read_is_ignored_and_told(
    folder: Path, measured: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured.write(folder)
    bundle = Bundle.open(folder)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    found = find_profile(bundle, RUNTIME)
    assert found.profile is None
    assert found.state == "bundle.tuned.json is ignored: it cannot be read (Permission denied)."


def test_who_reads_while_it_is_written_finds_one_or_the_other(folder: Path, measured: Profile) -> None:
    other = replace(measured, measured="2026-02-01")
    measured.write(folder)
    bundle = Bundle.open(folder)
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            other.write(folder)
            measured.write(folder)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(100):
            assert find_profile(bundle, RUNTIME).profile in (measured, other)
    finally:
        done.set()
        for writer in writers:
            writer.join()
    assert {entry.name for entry in folder.parent.iterdir()} == {"bundle", "bundle.tuned.json"}


# --- Where it cannot be written. ---


def test_a_folder_in_its_place_is_told(folder: Path, measured: Profile) -> None:
    profile_path(folder).mkdir()
    for write in (lambda: refuse_unwritable(folder), lambda: measured.write(folder)):
        with pytest.raises(BundleError, match=r"bundle\.tuned\.json"):
            write()
    assert {entry.name for entry in folder.parent.iterdir()} == {"bundle", "bundle.tuned.json"}


def test_a_folder_that_may_not_be_written_to_is_told(
    folder: Path, measured: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    for write in (lambda: refuse_unwritable(folder), lambda: measured.write(folder)):
        with pytest.raises(BundleError, match=r"\(Read-only file system\): make its folder writable"):
            write()


def test_a_hub_cache_is_left_as_it_is(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    with pytest.raises(BundleError, match="in a hub cache"):
        refuse_unwritable(snapshot)
    assert not profile_path(snapshot).exists()

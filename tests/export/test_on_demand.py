"""A checkpoint's hub id is loaded like a bundle's: exported once, by its commit, into the user's cache."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastspan
from fastspan import BundleError, CheckpointError, MissingDependency, ParityError, QuestionAnswerer
from fastspan.bundle.beside.file_lock import FileLock
from fastspan.cli.main import main
from fastspan.export import on_demand
from fastspan.export.options import ExportOptions
from fastspan.export.verification.checks import Effort
from support.stand_ins.hub import ID, MAIN, OLD, Hub, offline, serve, use_hub

huggingface_hub = pytest.importorskip("huggingface_hub")

PAIR = ("who built the tower", "the norse leader built the stone tower")


@pytest.fixture
def hub(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that holds a checkpoint, and a user whose caches are empty."""
    files = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    with serve(Hub(files={MAIN: files, OLD: files})) as state:
        use_hub(monkeypatch, state.endpoint, tmp_path / "cache")
        yield state


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[ExportOptions]:
    """What was exported; weights at random promise no parity, so fp32 alone is made of them."""
    seen: list[ExportOptions] = []
    true = on_demand.export

    def export(source: str, out: Path, options: ExportOptions, *, progress: Any) -> object:
        seen.append(options)
        wanted = ExportOptions(
            variants=("fp32",), revision=options.revision, pytorch=False, effort=Effort(work=0, fewest=3)
        )
        return true(source, out, wanted, progress=progress)

    monkeypatch.setattr(on_demand, "export", export)
    return seen


def folder_of(tmp_path: Path, commit: str) -> Path:
    return tmp_path / "user" / "fastspan" / "bundles" / "owner--tiny-qa" / f"{commit}-{fastspan.__version__}"


def answer(revision: str | None = None) -> tuple[object, str | None, str]:
    with QuestionAnswerer.load(ID, revision=revision, variant="fp32") as qa:
        return qa.answer(*PAIR), qa.info().revision, qa.info().bundle


def test_it_is_exported_once_and_says_so_in_one_line(
    hub: Hub, exports: list[ExportOptions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prediction, revision, folder = answer()
    assert (revision, folder) == (MAIN, str(folder_of(tmp_path, MAIN)))
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"fastspan: exporting {ID} at {MAIN[:12]}, once, to {folder}"]
    assert said.out == ""
    hub.requested.clear()
    assert answer() == (prediction, MAIN, folder)
    assert hub.fetched() <= {"fastspan.json", "config.json"}
    assert capsys.readouterr().err == ""
    assert [options.revision for options in exports] == [MAIN]
    assert [path.name for path in folder_of(tmp_path, MAIN).parent.iterdir()] == [Path(folder).name]


def test_another_revision_is_another_bundle(hub: Hub, exports: list[ExportOptions], tmp_path: Path) -> None:
    assert answer("v1")[1:] == (OLD, str(folder_of(tmp_path, OLD)))
    assert answer()[1:] == (MAIN, str(folder_of(tmp_path, MAIN)))
    assert len(exports) == 2


def test_offline_what_was_exported_is_found(
    hub: Hub, exports: list[ExportOptions], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    online = answer()
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    # A commit is what it was; what a branch is now, only the hub knows.
    assert answer(MAIN) == online
    with pytest.raises(BundleError, match="give a commit"):
        answer()
    with offline():
        assert answer() == answer(MAIN) == online
        with pytest.raises(BundleError, match="not in the hub cache"):
            answer("v1")


def test_commands_take_it_too(
    hub: Hub, exports: list[ExportOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", ID]) == 0
    assert f"at revision {MAIN}" in capsys.readouterr().out


def test_without_the_exporter_the_extra_and_the_command_are_named(
    hub: Hub, exports: list[ExportOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer()
    monkeypatch.delitem(sys.modules, "fastspan.export.on_demand")
    monkeypatch.setitem(sys.modules, "fastspan.export.exporter", None)
    # What was exported before needs no exporter.
    assert answer()[1] == MAIN
    with pytest.raises(MissingDependency) as caught:
        answer("v1")
    assert "pip install 'fastspan[export]'" in str(caught.value)
    assert f"`fastspan export {ID} --out FOLDER`" in str(caught.value)


def test_where_a_variant_misses_its_gate_fp32_is_loaded(
    hub: Hub,
    exports: list[ExportOptions],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    true = on_demand.export

    def strict(source: str, out: Path, options: ExportOptions, *, progress: Any) -> object:
        if "int8" in options.variants:
            raise ParityError("int8 differs")
        return true(source, out, options, progress=progress)

    monkeypatch.setattr(on_demand, "export", strict)
    assert answer()[1] == MAIN
    assert "fp32 alone, because int8 differs" in capsys.readouterr().err


def test_a_checkpoint_of_another_kind_is_told(hub: Hub, exports: list[ExportOptions], tmp_path: Path) -> None:
    hub.files[MAIN] = {"config.json": b'{"model_type": "gpt2"}', "model.safetensors": b"weights"}
    with pytest.raises(CheckpointError):
        answer()
    assert not folder_of(tmp_path, MAIN).exists()


def test_a_damaged_bundle_of_the_cache_is_exported_again(
    hub: Hub, exports: list[ExportOptions], tmp_path: Path
) -> None:
    first = answer()
    manifest = folder_of(tmp_path, MAIN) / "fastspan.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"layers": 2', b'"layers": 3'))
    assert answer() == first
    assert len(exports) == 2


def test_a_cache_that_refuses_is_told(
    hub: Hub, exports: list[ExportOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user").write_text("a file")
    with pytest.raises(BundleError, match="set XDG_CACHE_HOME to a folder that can be written to"):
        answer()

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(BundleError, match="There is no home folder"):
        answer()


def test_two_who_load_at_once_export_once(hub: Hub, exports: list[ExportOptions], tmp_path: Path) -> None:
    folder = folder_of(tmp_path, MAIN)
    folder.parent.mkdir(parents=True)
    lock = FileLock.take(folder.with_name(f".{folder.name}.exporting"))
    assert lock is not None
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(answer()))
    waiting.start()
    with lock:
        waiting.join(0.3)
        assert waiting.is_alive()
        assert not exports
    waiting.join(120)
    assert found
    assert found[0] == answer()
    assert len(exports) == 1

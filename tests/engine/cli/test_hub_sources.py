"""What commands do with a hub id and its revision, and with folders of the hub's cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fastspan import BundleError, QuestionAnswerer
from fastspan.bundle.folder import Bundle
from fastspan.bundle.hub.cache import in_hub_cache
from fastspan.cli.main import main
from support.stand_ins.hub import ID, MAIN

QUESTIONS = {"id": "1", "question": "who built it?", "context": "Rollo built it.", "answers": ["Rollo"]}


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(QUESTIONS), encoding="utf-8")
    return str(path)


@pytest.fixture
def snapshot(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle as the hub's cache holds it, on a system without links."""
    folder = tmp_path / "hub" / "models--owner--tiny-qa" / "snapshots" / MAIN
    shutil.copytree(tiny_bundle, folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "words",
    [
        ["answer", "who?", "FILE", "--bundle", ID],
        ["eval", ID, "--data", "FILE"],
        ["serve", ID],
        ["verify", ID],
        ["info", ID],
        ["slim", ID, "COPY", "--variants", "fp32"],
        ["tune", ID, "--copy-to", "COPY"],
        ["calibrate", ID, "--data", "FILE", "--copy-to", "COPY"],
    ],
)
def test_every_command_that_takes_a_hub_id_takes_its_revision(words, data, tmp_path, monkeypatch, capsys):
    def asked(source: str, revision: str | None) -> Bundle:
        raise BundleError(f"{source} was asked for at {revision}")

    def load(source: str, *, revision: str | None = None, **_: object) -> QuestionAnswerer:
        raise BundleError(f"{source} was asked for at {revision}")

    for module in (
        "cli.commands.bundles.info",
        "cli.commands.judging.verify",
        "cli.copied_bundle",
        "export.publishing.slim",
    ):
        monkeypatch.setattr(f"fastspan.{module}.open_bundle", asked)
    monkeypatch.setattr(QuestionAnswerer, "load", load)
    monkeypatch.chdir(tmp_path)
    places = {"FILE": data, "COPY": str(tmp_path / "copy")}
    assert main([*(places.get(word, word) for word in words), "--revision", "v1"]) == 1
    assert f"{ID} was asked for at v1" in capsys.readouterr().err


def test_a_folder_has_no_revision(tiny_bundle, capsys):
    for words in (["info", str(tiny_bundle)], ["tune", str(tiny_bundle)]):
        assert main([*words, "--revision", "v1"]) == 1
        assert "revision goes with a hub id" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["tune", "calibrate"])
def test_what_would_write_into_the_cache_asks_for_a_copy(command, snapshot, data, tmp_path, capsys):
    before = contents(tmp_path / "hub")
    link = tmp_path / "link"
    link.symlink_to(snapshot)
    for source in (snapshot, link):
        with pytest.raises(SystemExit) as ended:
            main([command, str(source), *(["--data", data] if command == "calibrate" else [])])
        assert ended.value.code == 2
        assert "--copy-to FOLDER" in capsys.readouterr().err
    assert contents(tmp_path / "hub") == before


@pytest.mark.parametrize(
    "words",
    [
        ["slim", "BUNDLE", "INSIDE", "--variants", "fp32"],
        ["export", "CHECKPOINT", "--out", "INSIDE", "--variants", "fp32"],
        ["tune", "BUNDLE", "--copy-to", "INSIDE"],
        ["calibrate", "BUNDLE", "--data", "DATA", "--copy-to", "INSIDE"],
        ["calibrate", "BUNDLE", "--data", "DATA", "--out", "INSIDE"],
        ["eval", "BUNDLE", "--data", "DATA", "--predictions", "INSIDE"],
        ["verify", "BUNDLE", "--against", "pytorch", "--data", "DATA", "--out", "INSIDE"],
    ],
)
def test_no_output_may_lie_in_the_cache(
    words, snapshot, data, tiny_bundle, tiny_checkpoint, tmp_path, capsys, idle_machine
):
    before = contents(tmp_path / "hub")
    places = {
        "BUNDLE": str(tiny_bundle),
        "CHECKPOINT": str(tiny_checkpoint),
        "DATA": data,
        "INSIDE": str(snapshot / "inside"),
    }
    assert main([places.get(word, word) for word in words]) == 1
    assert "cache" in capsys.readouterr().err
    assert contents(tmp_path / "hub") == before


def test_where_the_cache_is(snapshot, tmp_path):
    repository = snapshot.parent.parent
    (repository / "blobs").mkdir()
    for place in (snapshot, snapshot / "new" / "file", repository / "blobs" / "x", repository):
        assert in_hub_cache(place)
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    (tmp_path / "models--mine").mkdir()
    for place in (tmp_path / "hub", tmp_path / "models--mine" / "bundle", circle):
        assert not in_hub_cache(place)

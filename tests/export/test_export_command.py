"""``fastspan export``: what it takes for a path, and the command line it ends with."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastspan.cli.commands.bundles import export as command
from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.source import resolve_source


def parsed(*words):
    parser = ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def shown(capsys, out, *, not_run=(), notes=()):
    report = SimpleNamespace(
        bundle=SimpleNamespace(manifest=SimpleNamespace(variants={})),
        route="native",
        route_reason="bert is lowered natively",
        seconds=1.0,
        not_run=not_run,
        notes=notes,
    )
    command.show(report, Path(out))
    return capsys.readouterr().out


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    found = parsed("model", "--out", "~/bundle", "--calibration", "~/texts.jsonl")
    assert found.out == tmp_path / "bundle"
    assert found.calibration == tmp_path / "texts.jsonl"


def test_a_user_that_is_not_there(capsys):
    with pytest.raises(SystemExit):
        parsed("model", "--out", "~nobody-of-this-name/bundle")
    assert "write the whole path" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="neither a folder that exists nor a hub id"):
        resolve_source("~nobody-of-this-name/model")


def test_the_closing_hint_can_be_pasted(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fastspan"])
    assert "fastspan answer \"Who wrote it?\" FILE --bundle '/my models/a'" in shown(capsys, "/my models/a")


@pytest.mark.parametrize(
    ("called", "on_path", "program"),
    [
        ("/a/bin/fastspan", None, "/a/bin/fastspan"),
        (".venv/bin/fastspan", "/usr/bin/fastspan", ".venv/bin/fastspan"),
        ("/my bin/fastspan", None, "'/my bin/fastspan'"),
        ("/a/bin/fastspan", "/a/bin/fastspan", "fastspan"),
        ("/site/fastspan/__main__.py", None, "/a/python -m fastspan"),
        ("/site/pytest", None, "fastspan"),
    ],
)
def test_the_hint_names_the_program_as_it_can_be_called(called, on_path, program, monkeypatch):
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setattr(sys, "executable", "/a/python")
    monkeypatch.setattr("shutil.which", lambda name: on_path)
    assert command.program() == program


def test_graphs_that_were_not_compared_are_told(capsys):
    assert "Not compared" not in shown(capsys, "bundle")
    said = shown(capsys, "bundle", not_run=("onnx/a.onnx", "onnx/b.onnx"))
    assert "Not compared, being made for other machines than this one: onnx/a.onnx, onnx/b.onnx." in said

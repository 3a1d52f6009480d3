"""docs/hosting.md and docs/hub.md: their examples run, and their tables name what there is."""

from __future__ import annotations

import re
import shlex
import sys

import pytest

from fastspan import QuestionAnswerer
from fastspan.cli.main import build_parser, main
from fastspan.hosting.package import PLATFORMS
from support.paths import ROOT
from support.stand_ins.hub import ID, MAIN, Hub, serve, use_hub

HOSTING = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")
HUB = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [HOSTING, HUB], ids=["hosting", "hub"])
def test_commands_are_ones_that_there_are(page):
    lines = [line for block in blocks(page, "sh") for line in block.splitlines() if line]
    assert lines
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "fastspan"
        build_parser().parse_args(words)


def test_the_table_names_every_platform():
    table = HOSTING.split("## One request")[0]
    assert re.findall(r"^\| `([a-z][a-z-]+)` \|", table, re.MULTILINE) == list(PLATFORMS)


def test_the_hosting_examples_run_and_print_what_stands_below(bundled_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = blocks(HOSTING, "sh")[0].splitlines()[0].removeprefix("fastspan ")
    words = shlex.split(command.replace("models/exported/minilm-l6-squad2", str(bundled_bundle)))
    assert main(words) == 0
    capsys.readouterr()
    monkeypatch.setattr(sys, "path", [*sys.path])
    for example in blocks(HOSTING, "python"):
        exec(example, {})
    monkeypatch.delitem(sys.modules, "handler")
    assert capsys.readouterr().out == "".join(blocks(HOSTING, "text"))


def test_the_hub_example_runs(tiny_bundle, tmp_path, monkeypatch, capsys):
    pytest.importorskip("huggingface_hub")
    files = {
        path.relative_to(tiny_bundle).as_posix(): path.read_bytes()
        for path in tiny_bundle.rglob("*")
        if path.is_file()
    }
    (example,) = blocks(HUB, "python")
    with serve(Hub(revisions={"v2": MAIN}, files={MAIN: files})) as hub:
        use_hub(monkeypatch, hub.endpoint, tmp_path)
        names = {"QuestionAnswerer": QuestionAnswerer}
        exec(example.replace("my-team/bert-squad2-onnx", ID), names)
    names["qa"].close()
    assert capsys.readouterr().out == f"{MAIN}\n"


@pytest.mark.parametrize("status", ["401", "403", "404", "409", "412", "413", "429"])
def test_the_refusals_are_those_of_the_table(status):
    refusals = (ROOT / "export" / "hub" / "refusals.py").read_text(encoding="utf-8")
    assert f"| {status} |" in HUB
    assert f"status == {status}" in refusals

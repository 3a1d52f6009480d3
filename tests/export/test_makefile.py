"""``make export`` of anything but the bundled checkpoint never replaces what demo, test and serve use."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess

import pytest

from support.paths import ROOT

BUNDLED = "models/exported/minilm-l6-squad2"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def dry_run(*words):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"MODEL", "OUT", "VARIANTS", "REVISION", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    }
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        ((), BUNDLED),
        (("MODEL=models/minilm-l6-squad2/",), BUNDLED),
        (("MODEL=x/y", "OUT=somewhere else"), "somewhere else"),
        (("VARIANTS=fp32",), None),
        (("REVISION=v1",), None),
        (("MODEL=/x/minilm-l6-squad2",), None),
        (("MODEL=my models/a b//",), None),
    ],
)
def test_the_bundled_model_has_its_folder_and_the_command_chooses_the_others(words, folder):
    (command,) = re.findall(r"^\S*fastspan export .*", dry_run("export", *words), re.MULTILINE)
    told = shlex.split(command)
    assert (told[told.index("--out") + 1] if "--out" in told else None) == folder
    chosen = dict(word.split("=", 1) for word in words)
    if folder is None:
        assert told[2] == chosen.get("MODEL", "models/minilm-l6-squad2")
        assert told[told.index("--variants") + 1] == chosen.get("VARIANTS", "fp32,fp16,int8")
        assert ("--revision" in told) == ("REVISION" in chosen)


@pytest.mark.parametrize("words", [("VARIANTS=fp32", f"OUT=./{BUNDLED}/"), ("MODEL=x/y", f"OUT={BUNDLED}")])
def test_the_bundled_bundle_is_never_replaced_by_another(words):
    planned = dry_run("export", *words)
    assert "fastspan export" not in planned
    assert "exit 1" in planned


def test_serving_installs_once():
    assert re.search(r"pip install [^\n]*\[serve\][^\n]*\n(touch|@touch) \.venv/\.serve", dry_run("serve"))
    assert "\n.NOTPARALLEL:\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_links_for_checkers_survive_a_space_in_the_clones_path():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r'(?<!")\$\(CURDIR\)', makefile) == []

"""``make export`` of anything but the bundled checkpoint never replaces what demo, test and serve use."""

from __future__ import annotations

import os
import re
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
        (("VARIANTS=fp32",), "models/exported/models--minilm-l6-squad2-fp32"),
        (("REVISION=v1",), "models/exported/models--minilm-l6-squad2@v1"),
        (("MODEL=/x/minilm-l6-squad2",), "models/exported/x--minilm-l6-squad2"),
        (("MODEL=deepset/tinyroberta-squad2",), "models/exported/deepset--tinyroberta-squad2"),
        (("MODEL=other/tinyroberta-squad2/",), "models/exported/other--tinyroberta-squad2"),
        (("MODEL=my models/a b//",), "models/exported/my_models--a_b"),
        (("MODEL=x/y", "OUT=somewhere else"), "somewhere else"),
    ],
)
def test_every_choice_has_a_folder_of_its_own(words, folder):
    found = re.search(r"fastspan export .* --out ('[^']*'|\S+)", dry_run("export", *words))
    assert found is not None
    assert found[1].strip("'") == folder


@pytest.mark.parametrize(
    "words",
    [("MODEL=minilm-l6-squad2",), ("VARIANTS=fp32", f"OUT=./{BUNDLED}/"), ("MODEL=x/y", f"OUT={BUNDLED}")],
)
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

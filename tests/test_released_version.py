"""Every place that states the version states the same one, and the release makes sure of it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import fastspan
from support.paths import ROOT

PLACES = ("pyproject.toml", "engine/version.py", "CITATION.cff", "CHANGELOG.md")


def checked(root, *version):
    script = root / ".github" / "released_version.py"
    return subprocess.run([sys.executable, script, *version], capture_output=True, text=True, check=False)


def test_all_places_state_this_version():
    done = checked(ROOT, fastspan.__version__)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_place_that_states_another_is_named(tmp_path):
    for name in (".github/released_version.py", *PLACES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    assert checked(tmp_path, fastspan.__version__).returncode == 0
    for name in PLACES:
        text = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace(fastspan.__version__, "9.9.9", 1), encoding="utf-8")
        done = checked(tmp_path, fastspan.__version__)
        assert (done.returncode, name in done.stderr) == (1, True), name
        (tmp_path / name).write_text(text, encoding="utf-8")

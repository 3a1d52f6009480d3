"""What ``make parity`` runs, with a stand-in for the command that writes down how it was called."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from support.paths import ROOT

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or not (ROOT / "Makefile").is_file(), reason="needs make and the Makefile"
)

INHERITED = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MODEL", "DATA", "REVISION", "VARIANTS"}

STAND_IN = """#!/bin/sh
echo "$@" >> {log}
if [ "$1" = export ]; then mkdir -p {out} && touch {out}/fastspan.json; fi
if [ "$1" = verify ]; then exit {status}; fi
"""


class Parity:
    def __init__(self, folder: Path) -> None:
        self.out, self.part = folder / "out", folder / "squad2-dev-part.json"
        self._bin, self._log = folder / "bin", folder / "calls.txt"
        self._bin.mkdir()

    def make(self, *variables: str, status: int = 0) -> tuple[int, list[str]]:
        """Return make's exit status, and the subcommands that ran, ``verify``'s with its data."""
        command = self._bin / "fastspan"
        named = {"log": shlex.quote(str(self._log)), "out": shlex.quote(str(self.out)), "status": status}
        command.write_text(STAND_IN.format(**named))
        command.chmod(0o755)
        self._log.write_text("")
        paths = {"BIN": self._bin, "OUT": self.out, "SQUAD_PART": self.part}
        # Old files are not made again: nothing is to be installed here. Makes within it are told again.
        old = ["-o", ".venv/.reference", "-o", ".venv/.run"]
        done = subprocess.run(
            ["make", "-C", str(ROOT), *old, "parity", "PIP=false", f"MAKE=make {' '.join(old)}"]
            + [f"{name}={path}" for name, path in paths.items()]
            + list(variables),
            capture_output=True,
            text=True,
            # These tests may run under make themselves.
            env={name: value for name, value in os.environ.items() if name not in INHERITED},
        )
        calls = [shlex.split(line) for line in self._log.read_text().splitlines()]
        return done.returncode, [
            " ".join([words[0], *(words[words.index("--data") + 1 :] if "--data" in words else [])])
            for words in calls
        ]


@pytest.fixture
def parity(tmp_path: Path) -> Parity:
    return Parity(tmp_path)


def test_a_bundle_that_is_there_is_not_exported_again(parity: Parity):
    assert parity.make("MODEL=owner/name") == (0, ["export", "verify"])
    assert parity.make("MODEL=owner/name") == (0, ["verify"])


def test_without_data_the_own_questions_and_the_part_are_asked(parity: Parity):
    parity.make("MODEL=owner/name")
    parity.part.write_text("{}")
    assert parity.make("MODEL=owner/name") == (0, ["verify", f"verify {parity.part}"])
    assert parity.make("MODEL=owner/name", "DATA=my questions.json") == (0, ["verify my questions.json"])


def test_a_missed_gate_fails_after_both_reports(parity: Parity):
    parity.make("MODEL=owner/name")
    parity.part.write_text("{}")
    status, calls = parity.make("MODEL=owner/name", status=1)
    assert status != 0
    assert calls == ["verify", f"verify {parity.part}"]


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs git")
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("parity-minilm-l6-squad2-fastspan-eval.md", True),
        ("parity-minilm-l6-squad2-fastspan-eval.json", True),
        ("parity-minilm-l6-squad2-squad2-dev-part.md", False),
        ("parity-minilm-l6-squad2-squad2-dev-part.json", False),
        ("parity-bert-squad_v2-validation.json", False),
        ("report.md", True),
    ],
)
def test_only_reports_on_the_own_questions_are_for_the_repository(name, kept):
    checked = subprocess.run(["git", "-C", str(ROOT), "check-ignore", "-q", f"benchmarks/results/{name}"])
    assert (checked.returncode != 0) == kept

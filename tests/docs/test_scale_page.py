"""The commands of docs/scale.md run and print what stands below them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from support.paths import ROOT

PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def sessions() -> list[str]:
    return re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands_of(session: str) -> list[tuple[str, str]]:
    """Each command with what the page shows below it."""
    parts = re.split(r"^\$ (.*)\n", session, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_the_file_is_answered_as_shown(bundled_bundle, tmp_path):
    (tmp_path / "fastspan").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fastspan "$@"\n')
    (tmp_path / "fastspan").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "FASTSPAN_BUNDLE": str(bundled_bundle),
    }
    shown, *told = commands_of(sessions()[0])
    (tmp_path / "questions.jsonl").write_text(shown[1], encoding="utf-8")
    assert shown[0] == "cat questions.jsonl"
    for command, output in told:
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout == output


def test_the_example_of_a_plan_runs():
    ((command, _),) = commands_of(sessions()[1])
    words = command.split()
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "1,000,000,000 passages" in done.stdout
    assert "10,000 questions a second" in done.stdout

"""Runs the type checker over what users write."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

pytest.importorskip("mypy")


def test_users_see_the_promised_types(tmp_path: Path) -> None:
    # A type checker wants to see one package; the sources lie in several folders.
    package = tmp_path / "fastspan"
    package.mkdir()
    for source in (ROOT / "engine").iterdir():
        (package / source.name).symlink_to(source)
    user = Path(__file__).with_name("public_interface.py")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    examples = []
    for number, text in enumerate(re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)):
        examples.append(f"readme_example_{number}.py")
        (tmp_path / examples[-1]).write_text(text, encoding="utf-8")
    assert examples
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file",
            ROOT / "pyproject.toml",
            "--no-incremental",
            user,
            *examples,
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

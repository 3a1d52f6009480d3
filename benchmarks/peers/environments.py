"""Environments of the peers' own, made on demand: their dependencies would not agree in one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from fastspan.benchmarks.paths import ROOT
from fastspan.errors import MissingDependency

__all__ = ["PROJECT", "Run", "interpreter"]

PROJECT = "project"
"""The name of the environment that the measurement itself runs in."""

_FOLDER = Path(__file__).parent
_MARK = ".requirements-sha256"
_TIMEOUT_S = 1800

Run = Callable[[list[str]], None]


def interpreter(name: str, *, folder: Path = _FOLDER, run: Run | None = None) -> str:
    """Return the interpreter of an environment, made first where it is missing or out of date.

    Args:
        name: ``"project"``, or the NAME of a ``requirements-NAME.txt``.
        folder: Where the requirements lie and environments are made.
        run: Runs a command and raises where it fails; None: a subprocess.

    Raises:
        MissingDependency: The environment cannot be made; the message has the installer's last words.
    """
    if name == PROJECT:
        return sys.executable
    requirements = folder / f"requirements-{name}.txt"
    if not requirements.is_file():
        raise MissingDependency(f"{requirements} is missing: copy the project again.")
    home = folder / f".venv-{name}"
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    mark = home / _MARK
    if not (python.exists() and mark.is_file() and mark.read_text(encoding="ascii") == wanted):
        execute = run or _execute
        try:
            if not python.exists():
                venv.create(home, with_pip=True, symlinks=sys.platform != "win32")
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            execute([*pip, "-r", str(requirements)])
            # The peers' side of the measurement is FastSpan's own code, without its runtime.
            execute([*pip, "--no-deps", "-e", str(ROOT)])
        except (OSError, subprocess.SubprocessError) as error:
            raise MissingDependency(f"The environment {name!r} cannot be installed: {error}") from error
        mark.write_text(wanted, encoding="ascii")
    return str(python)


def _execute(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise subprocess.SubprocessError(" ".join(lines[-2:]) or done.stderr.strip()[-300:])

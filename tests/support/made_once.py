"""What many tests read and none changes, made once in a run, whichever of its processes needs it first."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fastspan.bundle.beside.file_lock import FileLock

# A process that makes something may share its cores with others.
_WAIT_S = 600


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Path]) -> Path:
    """Return what ``make`` makes, having made it in one process alone.

    Args:
        factory: Pytest's.
        name: What it is called: one name, one maker.
        make: Given a folder, makes something there, always in the same place, and says where.
    """
    run = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    folder, made = run / "made-once" / name, run / "made-once" / f"{name}.made"
    folder.parent.mkdir(exist_ok=True)
    lock = FileLock.take(folder.with_suffix(".lock"), wait=_WAIT_S)
    assert lock is not None, f"another process has been making {name} for {_WAIT_S} s"
    with lock:
        if not made.exists():
            folder.mkdir(exist_ok=True)  # another process may have failed here
            place = make(folder)
            made.write_text(str(place.relative_to(folder)), encoding="utf-8")
        return folder / made.read_text(encoding="utf-8")

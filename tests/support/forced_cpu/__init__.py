"""Let FastSpan find another CPU than the one it runs on, in this process and in those that tests start.

``pytest --cpu-features=plain`` tells it of a CPU without an instruction for 8-bit products, and hides the
int8 kernels, as if there had been no compiler. ``vnni`` tells it of one with such an instruction, and shows
the kernels. ``native``, the default, leaves all as it is. Which tests asked is kept, so that the other CPU
needs to be shown only to them: ``--asked-cpu``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastspan.kernels import library
from fastspan.machine import cpu
from fastspan.machine.cpu import CpuFeatures
from support.forced_cpu import sitecustomize as injection

__all__ = ["CPUS", "asked", "asker", "force_cpu", "stop_forcing", "true_cpu_features"]

CPUS = tuple(injection.CPUS)


def force_cpu(name: str, log: Path) -> None:
    """Let FastSpan find the CPU ``name``, here and in child processes; who asks is written to ``log``."""
    folder = str(Path(injection.__file__).parent)
    log.touch()
    os.environ[injection.VARIABLE] = f"{name}:{log}"
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
    injection.inject(cpu)
    injection.hide_kernels(library)


def stop_forcing() -> None:
    """Let children find their true CPU again."""
    if os.environ.pop(injection.VARIABLE, None):
        os.environ["PYTHONPATH"] = os.environ["PYTHONPATH"].partition(os.pathsep)[2]
        if not os.environ["PYTHONPATH"]:
            del os.environ["PYTHONPATH"]


@contextmanager
def asker(name: str) -> Iterator[None]:
    """While the block runs, it is ``name`` that asks, not the test that happens to run first."""
    before = os.environ.get(injection.ASKER)
    os.environ[injection.ASKER] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[injection.ASKER]
        else:
            os.environ[injection.ASKER] = before


def true_cpu_features(**elsewhere: Path) -> CpuFeatures:
    """``cpu_features`` as it is, whatever CPU the rest is told of."""
    return getattr(cpu.cpu_features, "true", cpu.cpu_features)(**elsewhere)


def asked(items: list[pytest.Item], log: Path) -> list[str]:
    """The tests that asked which CPU this is, themselves, in a child or through a shared fixture."""
    lines = set(log.read_text(encoding="utf-8").splitlines())
    if injection.OUTSIDE in lines:  # While a module was imported: anything may depend on it.
        return [item.nodeid for item in items]
    shared = {line.removeprefix("fixture ") for line in lines if line.startswith("fixture ")}
    return [
        item.nodeid
        for item in items
        if item.nodeid in lines or shared & set(getattr(item, "fixturenames", ()))
    ]

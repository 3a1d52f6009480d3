"""Let FastSpan find another CPU than the one it runs on, in this process and in those that tests start.

``pytest --cpu-features=plain`` tells it of a CPU without an instruction for 8-bit products, and hides the
int8 kernels, as if there had been no compiler. ``vnni`` tells it of one with such an instruction, and shows
the kernels. ``native``, the default, leaves all as it is. Which tests asked is kept, so that the other CPU
needs to be shown only to them: ``--asked-cpu``.

``--cores=8`` tells it of so many usable cores; so does ``forced_cores``, for one test. ``forced_features``
tells it of any instruction sets, for one test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastspan.kernels import library
from fastspan.machine import cpu
from fastspan.machine.cpu import CpuFeatures
from support.forced_cpu import sitecustomize as injection

__all__ = [
    "CPUS",
    "asked",
    "asker",
    "force_cores",
    "force_cpu",
    "forced_cores",
    "forced_features",
    "stop_forcing",
    "true_cpu_features",
    "true_usable_cores",
]

CPUS = tuple(injection.CPUS)

_FOLDER = str(Path(injection.__file__).parent)

# At once: modules that are imported from here on take what asks the environment.
injection.inject_all(cpu)


def force_cpu(name: str, log: Path) -> None:
    """Let FastSpan find the CPU ``name``, here and in child processes; who asks is written to ``log``."""
    log.touch()
    os.environ[injection.VARIABLE] = f"{name}:{log}"
    _reach_children()
    injection.inject(cpu)
    injection.hide_kernels(library)


def force_cores(number: int) -> None:
    """Let FastSpan find so many usable cores, here and in child processes."""
    os.environ[injection.CORES] = str(number)
    _reach_children()


@contextmanager
def forced_cores(number: int) -> Iterator[None]:
    """While the block runs, FastSpan finds so many usable cores in this process."""
    with _variable(injection.CORES, str(number)):
        yield


@contextmanager
def forced_features(features: CpuFeatures) -> Iterator[None]:
    """While the block runs, FastSpan finds such a CPU in this process."""
    with _variable(injection.FLAGS, f"{features.machine}:{' '.join(features.flags)}"):
        yield


def stop_forcing() -> None:
    """Let children find their true CPU again."""
    os.environ.pop(injection.VARIABLE, None)
    os.environ.pop(injection.CORES, None)
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry != _FOLDER]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    if not os.environ["PYTHONPATH"]:
        del os.environ["PYTHONPATH"]


def _reach_children() -> None:
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if _FOLDER not in path:
        os.environ["PYTHONPATH"] = os.pathsep.join([_FOLDER, *path])


@contextmanager
def asker(name: str) -> Iterator[None]:
    """While the block runs, it is ``name`` that asks, not the test that happens to run first."""
    with _variable(injection.ASKER, name):
        yield


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def true_cpu_features(**elsewhere: Path) -> CpuFeatures:
    """``cpu_features`` as it is, whatever CPU the rest is told of."""
    return getattr(cpu.cpu_features, "true", cpu.cpu_features)(**elsewhere)


def true_usable_cores(**elsewhere: Path) -> int:
    """``usable_cores`` as it is, whatever number the rest is told of."""
    return getattr(cpu.usable_cores, "true", cpu.usable_cores)(**elsewhere)


def asked(fixtures: dict[str, list[str]], log: Path) -> list[str]:
    """The tests that asked which CPU this is, themselves, in a child or through a shared fixture.

    Args:
        fixtures: Every test that ran → the names of its fixtures.
        log: Who asked, a line each.
    """
    lines = set(log.read_text(encoding="utf-8").splitlines())
    if injection.OUTSIDE in lines:  # While a module was imported: anything may depend on it.
        return list(fixtures)
    shared = {line.removeprefix("fixture ") for line in lines if line.startswith("fixture ")}
    return [test for test, names in fixtures.items() if test in lines or shared & set(names)]

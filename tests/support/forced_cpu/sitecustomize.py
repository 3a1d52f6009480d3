"""Every interpreter that has this folder on its path imports this when it starts; so do the tests themselves.

It imports nothing of FastSpan: tests see what importing FastSpan loads.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

VARIABLE = "FASTSPAN_TESTS_CPU"
"""Names the CPU, and after a colon the file that takes down who asks."""

FLAGS = "FASTSPAN_TESTS_FLAGS"
"""The machine and after a colon its instruction sets, for one test; goes before what VARIABLE names."""

CORES = "FASTSPAN_TESTS_CORES"
"""How many cores FastSpan finds usable; unset: as many as there are."""

ASKER = "FASTSPAN_TESTS_ASKER"
"""Who asks, where that is not the test that runs."""

OUTSIDE = "outside of tests"
"""Who asks while no test runs."""

_MODULE = "fastspan.machine.cpu"
_KERNELS = "fastspan.kernels.library"
_PLAIN = {"x86_64": ("avx2", "fma", "f16c"), "arm64": ("asimd",)}
_DOT_PRODUCT = {"x86_64": ("avx512f", "avx512bw", "avx512_vnni"), "arm64": ("asimddp",)}

CPUS = {
    "plain": _PLAIN,
    "vnni": {machine: (*_PLAIN[machine], *_DOT_PRODUCT[machine]) for machine in _PLAIN},
}
"""Name of a CPU → its instruction sets, by machine."""


def inject(cpu: ModuleType) -> None:
    """Let ``cpu_features`` answer what the environment says then, wherever it was imported to already."""
    if not hasattr(cpu.cpu_features, "true"):
        cpu.cpu_features = _forced_features(cpu, cpu.cpu_features)
    for module in list(sys.modules.values()):
        if getattr(module, "cpu_features", None) is cpu.cpu_features.true:
            module.cpu_features = cpu.cpu_features


def _forced_features(cpu: ModuleType, true):
    def forced_features(**elsewhere):
        if set(elsewhere.values()) - {true.__kwdefaults__["cpuinfo"]}:
            return true(**elsewhere)
        if FLAGS in os.environ:
            machine, _, flags = os.environ[FLAGS].partition(":")
            return cpu.CpuFeatures(machine, frozenset(flags.split()))
        if VARIABLE not in os.environ:
            return true(**elsewhere)
        name, _, log = os.environ[VARIABLE].partition(":")
        test, _, _ = os.environ.get("PYTEST_CURRENT_TEST", OUTSIDE).rpartition(" (")
        who = os.environ.get(ASKER) or test or OUTSIDE
        # One write of one line: children write to the file as well.
        with open(log, "a", encoding="utf-8") as lines:
            lines.write(f"{who}\n")
        machine = true().machine
        return cpu.CpuFeatures(machine, frozenset(CPUS[name].get(machine, ())))

    forced_features.true = true
    return forced_features


def inject_cores(cpu: ModuleType) -> None:
    """Let ``usable_cores`` answer what the environment says then, wherever it was imported to already."""
    if hasattr(cpu.usable_cores, "true"):
        return
    true = cpu.usable_cores

    def forced_cores(**elsewhere):
        number = os.environ.get(CORES)
        return true(**elsewhere) if elsewhere or not number else int(number)

    forced_cores.true = true
    for module in list(sys.modules.values()):
        if getattr(module, "usable_cores", None) is true:
            module.usable_cores = forced_cores


def inject_all(cpu: ModuleType) -> None:
    """Let the CPU and its cores be those that the environment names, where it does."""
    inject(cpu)
    inject_cores(cpu)


def hide_kernels(library: ModuleType) -> None:
    """Let the int8 kernels seem not to have been compiled, where the CPU that was named is the plain one.

    So one run of the suite is on a machine without a compiler, and the other on one that has all of this one.
    """
    if os.environ.get(VARIABLE, "").startswith("plain:"):
        library._FILE = library._FILE.with_name("hidden by --cpu-features=plain")
        library.unavailable_reason.cache_clear()


_HOOKS = {_MODULE: inject_all, _KERNELS: hide_kernels}


class _Finder:
    """Waits for the modules that know the CPU and the kernels to be imported."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name not in _HOOKS:
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_inject(module: ModuleType) -> None:
            execute(module)
            _HOOKS[name](module)

        spec.loader.exec_module = execute_and_inject
        return spec


if {VARIABLE, FLAGS, CORES} & os.environ.keys() and __name__ == "sitecustomize":
    sys.meta_path.insert(0, _Finder())

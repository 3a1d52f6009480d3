"""The suite's own promise: what it asserts holds on every CPU, and only one place asks which CPU this is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastspan import LoadOptions
from fastspan.bundle.beside.machine_profile import this_machine
from fastspan.runtime.run_settings import default_settings
from support.bundles.tiny_manifest import tiny_graph
from support.forced_cpu import CPUS, asked, asker, forced_cores, sitecustomize
from support.paths import ROOT

GRAPH = tiny_graph()
ASK = """
import sys
assert "fastspan" not in sys.modules
from pathlib import Path
from fastspan.loading import cpu_features
print(cpu_features().int8_dot_product)
assert cpu_features(cpuinfo=Path("/proc/cpuinfo")) == cpu_features()
assert not cpu_features(cpuinfo=Path("nowhere")).flags or sys.platform == "darwin"
"""


@pytest.mark.parametrize("name", CPUS)
def test_child_processes_find_the_cpu_that_they_are_told_of(name, tmp_path, monkeypatch):
    monkeypatch.setenv(sitecustomize.VARIABLE, f"{name}:{tmp_path / 'log'}")
    folder = str(Path(sitecustomize.__file__).parent)
    path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
    with asker("fixture f"):
        child = subprocess.run(
            [sys.executable, "-c", ASK],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    known = child.stdout.strip() in ("avx512_vnni", "asimddp")
    assert known == (name == "vnni")
    assert set((tmp_path / "log").read_text().splitlines()) == {"fixture f"}


def test_child_processes_find_as_many_cores_as_they_are_told_of(monkeypatch):
    folder = str(Path(sitecustomize.__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]))
    code = "from fastspan.runtime.run_settings import usable_cores; print(usable_cores())"
    with forced_cores(61):
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout == "61\n"


def test_cores_are_forced_wherever_they_are_asked_for():
    with forced_cores(3):
        assert LoadOptions().threads is None
        assert default_settings(LoadOptions(optimize_for="throughput"), "fp32", GRAPH).workers == 3
        with forced_cores(5):
            assert this_machine("1.0").cores == 5
        assert this_machine("1.0").cores == 3


def test_who_asked(tmp_path):
    fixtures = {"t.py::one": ["tmp_path"], "t.py::two": ["bundle"], "t.py::three": []}
    log = tmp_path / "log"
    log.write_text("t.py::one\nfixture bundle\nt.py::one\n")
    assert asked(fixtures, log) == ["t.py::one", "t.py::two"]
    log.write_text(f"{sitecustomize.OUTSIDE}\n")
    assert len(asked(fixtures, log)) == 3


def test_the_gate_shows_every_cpu_and_asks_pytorch():
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert all(f"--cpu-features={name}" in gate for name in CPUS)
    assert "make test-reference" in gate


def test_only_one_module_asks_the_machine_for_its_instruction_sets():
    """Else a test could depend on the CPU without having asked, and be left out where another is shown."""
    asking = re.compile(r"cpuinfo|platform\.(machine|processor)|sysctl|cpu_caps", re.I)
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("engine", "export", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        # Peers' environments lie in folders whose names begin with a dot.
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        and asking.search(path.read_text(encoding="utf-8"))
    }
    # The second names the kind of CPU, and asks the first for the instruction sets, which is taken down.
    assert found == {"engine/machine/cpu.py", "benchmarks/reporting/cpu_kind.py"}

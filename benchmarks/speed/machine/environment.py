"""Everything about the machine and the software that a speed measurement depends on."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.reporting.cpu_kind import device_kind, this_cpu_kind
from fastspan.benchmarks.reporting.machine import describe_machine
from fastspan.benchmarks.speed.answers import Device
from fastspan.benchmarks.speed.models.measured import SpeedModel
from fastspan.benchmarks.speed.record import Cpu, DefaultVariant
from fastspan.bundle.choose_variant import choose_variant
from fastspan.bundle.folder import Bundle
from fastspan.bundle.variants import ProviderKind
from fastspan.errors import BundleError
from fastspan.kernels import best_path
from fastspan.machine.cpu import cpu_features, cpu_name, usable_cores
from fastspan.runtime.providers import available_providers

__all__ = [
    "capture",
    "control_group_limits",
    "default_command",
    "default_variants",
    "describe_cpu",
    "gpu_name",
]

_PACKAGES = ("fastspan", "onnxruntime", "onnxruntime-gpu", "numpy", "tokenizers", "torch", "transformers")
_THREAD_PREFIXES = ("OMP_", "KMP_", "MKL_", "OPENBLAS_", "GOMP_", "RAYON_", "TOKENIZERS_")


def capture(models: Sequence[SpeedModel], command: Sequence[str]) -> dict[str, str]:
    """Describe what is about to be measured, as name → value for people.

    Args:
        models: The models; their bundles' files are named by their SHA-256.
        command: The command line.
    """
    features = cpu_features()
    governor = _read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    found = {
        **describe_machine(_PACKAGES),
        "instruction sets": " ".join(name for name, here in features.decisive.items() if here) or "unknown",
        **control_group_limits(),
        "memory": _memory(),
        "frequency governor": governor or "unknown",
        "virtual machine": "yes" if "hypervisor" in features.flags else "not known to be one",
        "load average before": _load_average(),
        "variables that set threads": _thread_variables(),
        "C library": " ".join(platform.libc_ver()).strip() or "unknown",
        "GPU": gpu_name() or "none",
        "execution providers offered": ", ".join(available_providers()),
        "commit": _commit(),
        "command": shlex.join(command),
        "measured": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }
    for model in models:
        manifest = Bundle.open(model.bundle).manifest
        for variant in manifest.variants.values():
            for graph in variant.graphs:
                digests = (manifest.files[path].sha256[:16] for path in (graph.file, *graph.data))
                found[f"{model.name}, {graph.file}"] = f"sha256 {' + '.join(digests)}"
    return found


def results_folder(root: Path, device: Device) -> Path:
    """Return the folder, not necessarily there, for what is measured on this machine's CPU or GPU."""
    return root / (device_kind(gpu_name() or "") if device == "gpu" else this_cpu_kind())


def describe_cpu() -> Cpu:
    """Describe this machine's CPU for the record."""
    sets = (name for name, here in cpu_features().decisive.items() if here)
    return Cpu(kind=this_cpu_kind(), name=cpu_name(), cores=usable_cores(), instruction_sets=tuple(sets))


def default_variants(models: Sequence[SpeedModel], device: Device) -> dict[str, DefaultVariant]:
    """Return model → what FastSpan runs by default on this machine; without those that it does not run."""
    kind: ProviderKind = "cuda" if device == "gpu" else "cpu"
    found = {}
    for model in models:
        with contextlib.suppress(BundleError):
            choice = choose_variant(
                Bundle.open(model.bundle).manifest, "auto", kind, cpu_features(), best_path()
            )
            found[model.name] = DefaultVariant(variant=choice.variant.name, reason=choice.reason)
    return found


def control_group_limits(*, mount: Path = Path("/sys/fs/cgroup")) -> dict[str, str]:
    """Return what the control group allows, as Linux's version 2 says it; empty where it says nothing."""
    names: Mapping[str, str] = {"cpu.max": "cgroup CPU quota", "memory.max": "cgroup memory limit"}
    found = {title: _read(mount / name) for name, title in names.items()}
    return {title: value for title, value in found.items() if value}


def gpu_name() -> str | None:
    """Name the NVIDIA GPU and its driver; None where there is none."""
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return found.splitlines()[0] if found else None


def _load_average() -> str:
    """Processes that ran or wanted to, on average over the last 1, 5 and 15 minutes."""
    try:
        return ", ".join(f"{load:.2f}" for load in os.getloadavg())
    except (AttributeError, OSError):
        return "unknown"


def _thread_variables() -> str:
    """Environment variables that the peers' runtimes take their threads from."""
    found = {name: value for name, value in os.environ.items() if name.startswith(_THREAD_PREFIXES)}
    return ", ".join(f"{name}={value}" for name, value in sorted(found.items())) or "none"


def _memory() -> str:
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            return f"{int(line.split()[1]) / 2**20:.1f} GiB"
    return "unknown"


def _commit() -> str:
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=20, check=True
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit + (" with uncommitted changes" if changes else "")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def default_command() -> list[str]:
    """The command line of this process, with its interpreter as people would type it."""
    return ["python", "-m", "fastspan.benchmarks.suite", *sys.argv[1:]]

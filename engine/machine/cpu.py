"""What this machine's CPU can do and how much of it this process may use."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CpuFeatures", "cpu_features", "cpu_name", "usable_cores"]

# One instruction that multiplies 8-bit numbers and sums the products in 32 bits, under the names that
# Linux gives the instruction sets: VNNI on x86 (EVEX and VEX encoded), the dot product of arm64.
_INT8_DOT_PRODUCT = {"x86_64": ("avx512_vnni", "avx_vnni"), "arm64": ("asimddp",)}
# Those that decide how fast a model runs: vector width, half precision, 8-bit products, matrix units.
_DECISIVE = {
    "x86_64": (
        *("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16"),
        *("avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    ),
    "arm64": ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
}
_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class CpuFeatures:
    """The instruction sets of a CPU.

    Attributes:
        machine: ``"x86_64"``, ``"arm64"``, or what the platform reports.
        flags: Instruction sets known to be there, named as in Linux's ``/proc/cpuinfo``. One that
            could not be asked for is absent.
    """

    machine: str
    flags: frozenset[str]

    @property
    def int8_dot_product(self) -> str | None:
        """The instruction set that makes int8 fast; None where none is known."""
        names = _INT8_DOT_PRODUCT.get(self.machine, ())
        return next((name for name in names if name in self.flags), None)

    @property
    def decisive(self) -> Mapping[str, bool]:
        """Name → whether it is there, for the instruction sets that decide how fast a model runs."""
        return {name: name in self.flags for name in _DECISIVE.get(self.machine, ())}


def cpu_features(*, cpuinfo: Path = Path("/proc/cpuinfo")) -> CpuFeatures:
    """Return the instruction sets of this machine's CPU; an empty set where they cannot be asked for.

    Args:
        cpuinfo: The file in which Linux describes its CPUs.
    """
    machine = platform.machine().lower()
    machine = _MACHINES.get(machine, machine)
    flags = _darwin_flags(machine) if sys.platform == "darwin" else _linux_flags(_read(cpuinfo))
    return CpuFeatures(machine, flags)


def _linux_flags(cpuinfo: str) -> frozenset[str]:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        # "flags" on x86, "Features" on arm64; the same for every core, so the first one serves.
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _darwin_flags(machine: str) -> frozenset[str]:
    if machine == "arm64":
        # Every Mac with an Apple CPU has the dot product.
        return frozenset({"asimddp"})
    found = _sysctl("machdep.cpu.leaf7_features")
    return frozenset({"avx512_vnni"}) if "AVX512VNNI" in found.split() else frozenset()


def _sysctl(name: str) -> str:
    """What macOS says of itself, empty where it does not."""
    import subprocess  # slow to import, and needed on macOS alone

    try:
        return subprocess.run(
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the CPU's name as the system gives it; Linux on arm64 gives none, and the machine's stands in.

    Args:
        cpuinfo: The file in which Linux describes its CPUs.
    """
    if sys.platform == "darwin":
        named = _sysctl("machdep.cpu.brand_string")
    else:
        found = re.search(r"^model name\s*:\s*(.+)$", _read(cpuinfo), re.MULTILINE)
        named = found[1] if found else ""
    return named or platform.processor() or platform.machine() or "unknown"


def usable_cores(
    *, membership: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> int:
    """Return how many cores this process may keep busy, at least 1.

    That is the number of CPUs it may be scheduled on, or the CPU quota of its control groups (version 1
    or 2), rounded down, if that is less: threads beyond the quota would only be throttled.

    Args:
        membership: The file in which Linux names the process's control groups.
        mount: Where the control groups are mounted.
    """
    if sys.platform == "linux":
        scheduled = len(os.sched_getaffinity(0))
    else:
        scheduled = os.cpu_count() or 1
    quotas = [_quota(folder) for folder in _control_groups(_read(membership), mount)]
    return max(1, int(min([scheduled, *(quota for quota in quotas if quota is not None)])))


def _control_groups(membership: str, mount: Path) -> list[Path]:
    """Return the folders of the control groups that bound this process's CPU time, innermost first."""
    folders: list[Path] = []
    for line in membership.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            top = mount
        elif "cpu" in controllers.split(","):
            top = mount / "cpu"
        else:
            continue
        # A container may see its host's path here while its mount begins at its own group, and a group is
        # bound by those above it: so every folder from the path up to the mount is looked into.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        folders.extend(top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))
    return folders


def _quota(folder: Path) -> float | None:
    """Return the CPUs' worth of time that a control group may use; None for no limit."""
    quota, period = [*_read(folder / "cpu.max").split(), "", ""][:2]
    if not quota:
        quota = _read(folder / "cpu.cfs_quota_us").strip()
        period = _read(folder / "cpu.cfs_period_us").strip()
    # No limit is spelled "max" in version 2 and -1 in version 1.
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    """Return a small text file, empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

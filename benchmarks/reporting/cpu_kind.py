"""The kind of a CPU as a short name, such as ``amd-zen3-avx2``: the folder that its results are filed in.

CPUs of one kind have the same maker and the same instruction sets for what a model computes. AMD's
generations, which differ in speed at equal instruction sets, are told apart as well.
"""

from __future__ import annotations

import re
from pathlib import Path

from fastspan.machine.cpu import CpuFeatures, cpu_features, cpu_name

__all__ = ["cpu_kind", "device_kind", "this_cpu_kind"]

# What Linux calls the makers, on x86 by "vendor_id" and on arm64 by the number of "CPU implementer".
_MAKERS = {
    "GenuineIntel": "intel", "AuthenticAMD": "amd", "HygonGenuine": "hygon",
    "0x41": "arm", "0x46": "fujitsu", "0x48": "hisilicon", "0x4e": "nvidia", "0x51": "qualcomm",
    "0x61": "apple", "0x6d": "microsoft", "0xc0": "ampere",
}  # fmt: skip
# On Arm all of these count; on x86 the widest vectors, and what multiplies 8-bit and 16-bit numbers.
_ARM = (("asimddp", "dotprod"), ("i8mm", "i8mm"), ("bf16", "bf16"), ("sve", "sve"))


def this_cpu_kind(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the kind of this machine's CPU.

    Args:
        cpuinfo: The file in which Linux describes its CPUs.
    """
    try:
        described = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # Elsewhere the CPU's name has its maker's.
        described = f"vendor_id: {cpu_name(cpuinfo)}"
    return cpu_kind(cpu_features(cpuinfo=cpuinfo), described)


def cpu_kind(features: CpuFeatures, described: str) -> str:
    """Return the kind of a CPU: its maker, its generation where that is known, its instruction sets.

    Args:
        features: Its instruction sets.
        described: What the system says of it, as lines ``name : value`` like those of ``/proc/cpuinfo``.
    """
    maker = _maker(_value(described, "vendor_id") or _value(described, "CPU implementer"))
    parts = [maker or features.machine]
    if maker == "amd" and (generation := _zen(described, features)):
        parts.append(generation)
    parts += _arm_sets(features) if features.machine == "arm64" else _x86_sets(features)
    return "-".join(parts)


def device_kind(name: str) -> str:
    """Return the kind of a GPU by its name: ``nvidia-h200`` for ``"NVIDIA H200, 570.10"``."""
    words = re.sub(r"[^a-z0-9]+", "-", name.split(",")[0].lower()).strip("-")
    return words or "gpu"


def _maker(vendor: str) -> str:
    known = _MAKERS.get(vendor)
    if known is None:
        known = next((maker for maker in ("apple", "intel", "amd") if maker in vendor.lower()), "")
    return known


def _zen(described: str, features: CpuFeatures) -> str:
    """AMD's generation: the family groups two of them, which instruction sets or the model tell apart."""
    family, model = (_number(_value(described, name)) for name in ("cpu family", "model"))
    if family == 23:
        return "zen2" if model >= 0x30 else "zen"
    if family == 25:
        return "zen4" if "avx512f" in features.flags else "zen3"
    return "zen5" if family == 26 else ""


def _x86_sets(features: CpuFeatures) -> list[str]:
    flags = features.flags
    found = [next((name for name in ("avx512", "avx2") if name in flags or f"{name}f" in flags), "no-avx2")]
    if flags & {"avx512_vnni", "avx_vnni"}:
        found.append("vnni")
    if flags & {"amx_int8"}:
        found.append("amx")
    elif flags & {"avx512_bf16"}:
        # Every CPU with AMX has it.
        found.append("bf16")
    return found


def _arm_sets(features: CpuFeatures) -> list[str]:
    return [title for flag, title in _ARM if flag in features.flags] or ["no-dotprod"]


def _value(described: str, name: str) -> str:
    found = re.search(rf"^{re.escape(name)}\s*:\s*(.*)$", described, re.MULTILINE)
    return found[1].strip() if found else ""


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0

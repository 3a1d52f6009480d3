"""With which flags each source file of the kernels is compiled."""

from __future__ import annotations

from pathlib import Path

KERNELS = Path(__file__).parent
# Each folder is one idea, and a file is included by its name: no two have the same.
FOLDERS = ("operator", "model", "encoder", "paths", "lanes", "products")
COMMON = "-std=c++17 -O3 -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno"
AVX512 = "-mavx2 -mfma -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni"
# A path's own file is compiled for its own instructions; all other files for the oldest CPU of the platform.
X86_PATHS = {
    "path_avx2.cpp": "-mavx2 -mfma",
    "path_avxvnni.cpp": "-mavx2 -mfma -mavxvnni",
    "path_avx512vnni.cpp": AVX512,
    "path_amx.cpp": f"{AVX512} -mamx-tile -mamx-int8",
}
ARM_PATHS = {
    "path_neondot.cpp": "-march=armv8.2-a+dotprod",
    "path_neoni8mm.cpp": "-march=armv8.2-a+dotprod+i8mm",
}
PATHS = {"x86_64": X86_PATHS, "amd64": X86_PATHS, "aarch64": ARM_PATHS, "arm64": ARM_PATHS}


def sources() -> list[Path]:
    """Every source file, for whatever machine."""
    return sorted(KERNELS.rglob("*.cpp"))


def headers() -> list[Path]:
    """Every header: any source file may include any of them."""
    return sorted(KERNELS.rglob("*.h"))


def flags(source: Path, machine: str) -> list[str] | None:
    """Flags for a source file; None where it is for another machine."""
    paths = PATHS.get(machine, {})
    common = [*COMMON.split(), *(f"-I{KERNELS / folder}" for folder in FOLDERS)]
    if source.name in paths:
        return [*common, *paths[source.name].split()]
    if source.name in X86_PATHS or source.name in ARM_PATHS:
        return None
    # The reference path is for checking the others: its speed is not worth a minute of compiling.
    return [*common, *(["-O2"] if source.name == "path_portable.cpp" else [])]


def is_path(source: Path) -> bool:
    """Whether this file needs instructions that a compiler may be too old for."""
    return source.name in X86_PATHS or source.name in ARM_PATHS

"""What a measurement ran on: CPU, operating system, versions."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

from fastspan.machine.cpu import cpu_features, cpu_name, usable_cores

__all__ = ["describe_machine"]


def describe_machine(packages: Sequence[str]) -> dict[str, str]:
    """Describe this machine, as name → value for people.

    Args:
        packages: Distributions whose versions count.
    """
    features = cpu_features()
    return {
        "CPU": f"{cpu_name()}, {usable_cores()} usable cores",
        "8-bit dot product": features.int8_dot_product or "none",
        "system": f"{platform.system()} {platform.release()}, {features.machine}",
        "Python": platform.python_version(),
        **{package: _version(package) for package in packages},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"

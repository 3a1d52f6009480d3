"""What this machine and this installation offer, and what ``auto`` makes of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from types import ModuleType
from typing import Any

from fastspan.bundle.beside.machine_profile import find_profile
from fastspan.bundle.choose_variant import preferred_variants
from fastspan.bundle.folder import Bundle
from fastspan.errors import FastSpanError, MissingDependency
from fastspan.kernels import best_path, paths, unavailable_reason
from fastspan.machine.cpu import cpu_features, cpu_name, usable_cores
from fastspan.machine.cuda_libraries import CudaFindings, find_cuda
from fastspan.runtime.cuda.probe import cuda_runs
from fastspan.runtime.providers import import_onnxruntime, provider_kind

__all__ = ["AutoProvider", "Diagnosis", "auto_provider", "diagnose", "profile_state"]

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_PACKAGES = (
    "fastspan",
    "numpy",
    "tokenizers",
    "huggingface-hub",
    "onnx",
    "safetensors",
    "transformers",
    "torch",
    "optimum-onnx",
)
# Wheels that all install the one import package onnxruntime, each over the files of the others.
_RUNTIME_WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoProvider:
    """Which execution provider ``provider="auto"`` comes to.

    Attributes:
        provider: Its full name; None without a usable ONNX Runtime.
        reason: Why, for people.
    """

    provider: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found.

    Attributes:
        python: Version and implementation.
        platform: Operating system and machine.
        packages: Name → version of the packages that matter; None where one is not installed.
        runtime_wheels: Name → version of the installed wheels of ONNX Runtime.
        providers: Full names of the execution providers that ONNX Runtime offers.
        cpu: The CPU's name.
        instruction_sets: Name → whether the CPU has it, for those that matter on this machine.
        cores: How many the machine shows.
        usable_cores: How many this process may keep busy.
        cuda: What of CUDA is here.
        kernels: What FastSpan's own int8 kernels run on here, or why they do not; a sentence.
        auto: The provider that ``auto`` comes to.
        auto_variant: The variant that ``auto`` takes from a bundle that holds all three.
        auto_variant_reason: Why, for people.
        profile: Whether what ``fastspan tune`` measured for the bundle at hand is used, or why not.
        problems: What is broken and how to mend it, a sentence each.
    """

    python: str
    platform: str
    packages: Mapping[str, str | None]
    runtime_wheels: Mapping[str, str]
    providers: tuple[str, ...]
    cpu: str
    instruction_sets: Mapping[str, bool]
    cores: int
    usable_cores: int
    cuda: CudaFindings
    kernels: str
    auto: AutoProvider
    auto_variant: str | None
    auto_variant_reason: str
    profile: str
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as built-in types, ready for ``json.dumps``."""
        return asdict(self)


def diagnose(bundle: str | None = None) -> Diagnosis:
    """Look at this machine and this installation.

    Args:
        bundle: The folder of the bundle whose profile is looked for; None: there is none at hand.
    """
    problems: list[str] = []
    runtime: ModuleType | None = None
    try:
        runtime = import_onnxruntime()
    except MissingDependency as error:
        problems.append(str(error))
    wheels = {name: version for name in _RUNTIME_WHEELS if (version := installed_version(name)) is not None}
    if len(wheels) > 1:
        problems.append(
            f"{' and '.join(wheels)} are installed together, and overwrote each other's files: run "
            f"pip uninstall -y {' '.join(wheels)}, then install the one that you want."
        )
    cuda = find_cuda(runtime)
    auto = auto_provider(cuda)
    if cuda.built_for is not None and auto.provider == _CPU:
        problems.append(f"ONNX Runtime was built for CUDA {cuda.built_for}, but {auto.reason}")
    variant, reason = _auto_variant(auto)
    features = cpu_features()
    return Diagnosis(
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        platform=f"{platform.system()} {platform.release()} {features.machine}",
        packages={name: installed_version(name) for name in _PACKAGES},
        runtime_wheels=wheels,
        providers=tuple(runtime.get_available_providers()) if runtime is not None else (),
        cpu=cpu_name(),
        instruction_sets=features.decisive,
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        cuda=cuda,
        kernels=_kernels(),
        auto=auto,
        auto_variant=variant,
        auto_variant_reason=reason,
        profile=_profile(bundle),
        problems=tuple(problems),
    )


def auto_provider(cuda: CudaFindings | None = None) -> AutoProvider:
    """Say which provider ``"auto"`` comes to: CUDA where it runs, else the CPU.

    Args:
        cuda: What of CUDA is here; None: it is looked for.
    """
    try:
        runtime = import_onnxruntime()
    except MissingDependency as error:
        return AutoProvider(provider=None, reason=str(error))
    if _CUDA not in runtime.get_available_providers():
        return AutoProvider(provider=_CPU, reason="the installed ONNX Runtime has no CUDA provider.")
    found = cuda or find_cuda(runtime)
    if cuda_runs(runtime):
        return AutoProvider(provider=_CUDA, reason=f"it runs here, on {', '.join(found.devices) or 'a GPU'}.")
    if found.missing:
        lacking = ", ".join(found.missing)
        return AutoProvider(provider=_CPU, reason=f"CUDA does not run here, it lacks {lacking}.")
    if not found.devices:
        return AutoProvider(provider=_CPU, reason="CUDA does not run here, its driver shows no GPU.")
    return AutoProvider(provider=_CPU, reason="CUDA does not run here, though its driver and libraries load.")


def profile_state(bundle: Bundle) -> str:
    """Say whether what ``fastspan tune`` measured for a bundle holds here, or why not."""
    try:
        runtime = import_onnxruntime()
    except MissingDependency as error:
        return f"not looked for: {error}"
    return find_profile(bundle, str(runtime.__version__)).state


def _profile(folder: str | None) -> str:
    if folder is None:
        return "not looked for: no bundle was named."
    try:
        return f"{folder}: {profile_state(Bundle.open(folder))}"
    except FastSpanError as error:
        return f"not looked for: {error}"


def _kernels() -> str:
    unavailable = unavailable_reason()
    if unavailable is not None:
        return f"plain int8 graphs run: {unavailable}."
    used, *others = paths()
    could = f", and could run on {', '.join(others)}" if others else ""
    return f"run on {used}{could}."


def _auto_variant(auto: AutoProvider) -> tuple[str | None, str]:
    if auto.provider is None:
        return None, auto.reason
    names, because = preferred_variants(provider_kind(auto.provider), cpu_features(), best_path())
    return names[0], f"{names[0]}, because {because}."


def installed_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

"""What ``fastspan tune`` measured on a machine: a file beside a bundle, used only where it still holds.

A profile changes how a graph is run, never which graph, so no answer depends on whether there is one. It is
keyed by the bundle's manifest, the CPU and the version of ONNX Runtime. Whatever does not fit, or cannot be
read, is left aside: a profile can make loading faster runs, not make loading fail.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from fastspan.bundle.folder import Bundle
from fastspan.bundle.hub.cache import hub_snapshot
from fastspan.bundle.strict_json import decode, named, parse_object
from fastspan.bundle.variants import VariantName
from fastspan.bundle.whole_files import write_whole
from fastspan.errors import BundleError
from fastspan.machine.cpu import cpu_features, cpu_name, usable_cores
from fastspan.options import shown

__all__ = [
    "Cost",
    "FoundProfile",
    "Machine",
    "Profile",
    "RunSettings",
    "Tuned",
    "find_profile",
    "profile_path",
    "refuse_unwritable",
    "this_machine",
]

_FORMAT = 1
_SUFFIX = ".tuned.json"
_LARGEST = 1 << 18
_MOST_BATCH_TOKENS = 1 << 16
_MOST_BLOCKS = 1 << 10
_LONGEST_SPIN_US = 1_000_000
_AGAIN = "run `fastspan tune` again."


def _demand(holds: bool, demand: str) -> None:
    if not holds:
        raise BundleError(f"The profile must have {demand}: {_AGAIN}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How windows are run on a CPU. Nothing here changes an answer.

    Attributes:
        threads: Threads of one run.
        workers: Runs at once.
        spinning: Whether threads without work spin instead of sleeping.
        block_base: What ONNX Runtime calls ``session.dynamic_block_base``: an operator's work is cut into
            about this many times as many blocks as there are threads, which evens out uneven cores. 0: one
            block a thread.
        batch_tokens: Windows of equal length share a run of at most so many tokens; 1: each runs alone.
        spin_duration_us: Microseconds that a thread spins for more work before it sleeps after all, ONNX
            Runtime's ``session.intra_op.spin_duration_us``; None: as long as ONNX Runtime lets it.
    """

    threads: int
    workers: int
    spinning: bool
    block_base: int
    batch_tokens: int
    spin_duration_us: int | None = None

    def __post_init__(self) -> None:
        _demand(min(self.threads, self.workers) >= 1, "at least one thread and one worker")
        _demand(0 <= self.block_base <= _MOST_BLOCKS, f"a block_base from 0 to {_MOST_BLOCKS}")
        _demand(1 <= self.batch_tokens <= _MOST_BATCH_TOKENS, f"batch_tokens from 1 to {_MOST_BATCH_TOKENS}")
        spins = self.spin_duration_us
        demand = f"a spin_duration_us from 1 to {_LONGEST_SPIN_US}, or null"
        _demand(spins is None or 1 <= spins <= _LONGEST_SPIN_US, demand)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a profile was measured; one measured elsewhere does not hold.

    Attributes:
        cpu: The CPU's name.
        instruction_sets: Those it has of the ones that decide how fast a model runs.
        cores: How many the process could keep busy.
        onnxruntime: The version of ONNX Runtime.
    """

    cpu: str
    instruction_sets: tuple[str, ...]
    cores: int
    onnxruntime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an answer took with some settings when they were measured.

    Attributes:
        seconds: Median seconds.
        cpu_seconds: Median processor seconds of the whole process, until its threads slept again.
    """

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What suits one variant best.

    Attributes:
        latency: Settings for ``optimize_for="latency"``.
        throughput: Settings for ``optimize_for="throughput"``.
        latency_cost: What an answer took with the former; None where nothing was measured.
        throughput_cost: The same for the latter, for one answer of many.
    """

    latency: RunSettings
    throughput: RunSettings
    latency_cost: Cost | None = None
    throughput_cost: Cost | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The settings measured for a bundle on a machine.

    Attributes:
        format: Version of the file's format.
        measured: The day it was measured, as ``YYYY-MM-DD``, for people.
        manifest: SHA-256 of the bundle's manifest.
        machine: Where it was measured.
        variants: Name of the variant → what suits it.
    """

    format: int = _FORMAT
    measured: str
    manifest: str
    machine: Machine
    variants: Mapping[str, Tuned]

    def __post_init__(self) -> None:
        _demand(self.format == _FORMAT, f"format {_FORMAT}, not {self.format}")
        for name, tuned in self.variants.items():
            _demand(name in get_args(VariantName), f"variants that a bundle may hold, not {shown(name)}")
            for settings in (tuned.latency, tuned.throughput):
                fits = settings.threads * settings.workers <= self.machine.cores
                _demand(fits, f"no more than {self.machine.cores} threads in all")

    def to_json(self) -> bytes:
        """Return the file's bytes."""
        return f"{json.dumps(asdict(self), indent=2)}\n".encode()

    @classmethod
    def from_json(cls, data: bytes) -> Profile:
        """Read the file's bytes, strictly.

        Raises:
            BundleError: They are not a profile of this format.
        """
        return decode(cls, parse_object(data, "the profile"), where="profile")

    def write(self, folder: Path) -> Path:
        """Write the profile beside a bundle: who reads meanwhile finds the former one or this, whole.

        Args:
            folder: The bundle's folder.

        Returns:
            The file.

        Raises:
            BundleError: The file cannot be written.
        """
        path = profile_path(folder)
        try:
            write_whole(path, self.to_json())
        except OSError as error:
            raise _unwritable(path, error) from error
        return path


@dataclass(frozen=True, slots=True)
class FoundProfile:
    """What lies beside a bundle.

    Attributes:
        profile: The profile that holds here; None where there is none.
        state: A sentence that says so, or why not. It names no folder.
    """

    profile: Profile | None
    state: str


def find_profile(bundle: Bundle, onnxruntime: str) -> FoundProfile:
    """Read the profile beside a bundle, if there is one and it holds for this bundle on this machine.

    Args:
        bundle: The bundle.
        onnxruntime: The version of ONNX Runtime that runs.
    """
    path = profile_path(bundle.folder)
    try:
        if not os.path.lexists(path):
            return FoundProfile(None, "none: `fastspan tune` has measured nothing for this bundle.")
        if not path.is_file():
            return FoundProfile(None, f"{path.name} is ignored: it is not a file.")
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            return FoundProfile(None, f"{path.name} is ignored: it is too large to be a profile; {_AGAIN}")
        profile = Profile.from_json(data)
        stale = _what_changed(profile, bundle.digest, this_machine(onnxruntime))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return FoundProfile(None, f"{path.name} is ignored: it cannot be read ({reason}).")
    except BundleError:
        # What it is instead would be told at length, and mends nothing.
        return FoundProfile(
            None, f"{path.name} is ignored: this version of fastspan did not write it; {_AGAIN}"
        )
    if stale is not None:
        return FoundProfile(None, f"{path.name} is ignored: {stale}; {_AGAIN}")
    names = ", ".join(profile.variants)
    return FoundProfile(profile, f"{path.name} holds, measured on {named(profile.measured)} for {names}.")


def profile_path(folder: Path) -> Path:
    """Return where the profile of the bundle in ``folder`` lies: beside it, so the bundle stays whole."""
    # "." and "x/.." have no name of their own.
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow a link to another folder
    return folder.with_name(f"{folder.name}{_SUFFIX}")


def this_machine(onnxruntime: str) -> Machine:
    """Say where a measurement would be made now.

    Args:
        onnxruntime: The version of ONNX Runtime that runs.
    """
    return Machine(
        cpu=cpu_name(),
        instruction_sets=tuple(name for name, here in cpu_features().decisive.items() if here),
        cores=usable_cores(),
        onnxruntime=onnxruntime,
    )


def refuse_unwritable(folder: Path) -> None:
    """Find out, before anything is measured, that a profile could not be written beside a bundle.

    Raises:
        BundleError: It could not.
    """
    path = profile_path(folder)
    if hub_snapshot(folder) is not None:
        raise BundleError(
            f"{folder} is in a hub cache, which holds nothing but what was downloaded: download the bundle "
            "to a folder of its own and tune that."
        )
    if path.is_dir():
        raise BundleError(f"{path} is a folder, where the profile belongs: move it away.")
    probe = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _what_changed(profile: Profile, manifest: str, here: Machine) -> str | None:
    there = profile.machine
    if profile.manifest != manifest:
        return "the bundle has changed since it was measured"
    if (there.cpu, there.instruction_sets) != (here.cpu, here.instruction_sets):
        return f"it was measured on another CPU, {named(there.cpu)}"
    if there.cores != here.cores:
        return f"it was measured with {there.cores} usable cores, and here are {here.cores}"
    if there.onnxruntime != here.onnxruntime:
        version = named(there.onnxruntime)
        return f"it was measured with ONNX Runtime {version}, and {here.onnxruntime} is installed"
    return None


def _unwritable(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"The profile cannot be written to {path} ({error.strerror or error}): make its folder writable, or "
        "tune a copy of the bundle in one that is."
    )

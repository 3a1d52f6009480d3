"""What describes a speed measurement: a JSON file. Two others go with it: see ``samples`` and ``answers``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.speed.answers import Device
from fastspan.errors import DataError

__all__ = [
    "Accuracy",
    "Cpu",
    "DefaultVariant",
    "MeasuredPeer",
    "MeasuredWorkload",
    "Part",
    "SpeedRecord",
    "Status",
]

Status = Literal["measured", "missing", "left out", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredWorkload:
    """A workload of a model.

    Attributes:
        model: The model's name.
        name: The workload's name.
        title: What it is, for people.
        group: ``"single"`` or ``"batch"``.
        questions: Questions a run.
        windows: Windows a run.
        tokens: Tokens of all windows together.
        flops: Floating-point operations of a run, padding not counted.
    """

    model: str
    name: str
    title: str
    group: str
    questions: int
    windows: int
    tokens: int
    flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Scores of the answers to questions asked off the clock, in percent.

    Attributes:
        questions: How many were scored.
        exact: Exact match.
        f1: Token F1.
        f1_low: The lower end of its 95% bootstrap interval over questions; None where there is none.
        f1_high: The upper end.
    """

    questions: int
    exact: float
    f1: float
    f1_low: float | None = None
    f1_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The CPU that was measured, or that the GPU was measured beside.

    Attributes:
        kind: A short name shared by CPUs of the same maker and instruction sets; see ``reporting.cpu_kind``.
        name: As the system gives it.
        cores: How many cores the process could use.
        instruction_sets: Those that decide how fast a model runs.
    """

    kind: str
    name: str
    cores: int
    instruction_sets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultVariant:
    """The variant that FastSpan takes by default where it was measured.

    Attributes:
        variant: Its name.
        reason: A sentence for people.
    """

    variant: str
    reason: str


@dataclass(slots=True, kw_only=True)
class MeasuredPeer:
    """A system at certain settings with one model; filled in as the measurement goes on.

    Attributes:
        model: The model's name.
        name: The system with its settings.
        system: Whose it is.
        variant: Its precision.
        mode: ``"latency"`` or ``"throughput"``.
        status: ``"measured"``: it loaded, and what it failed at is among the failures. ``"missing"``: it
            cannot be installed here. ``"left out"``: on purpose. ``"failed"``: it does not load.
        reason: Why it was not measured; empty where it was.
        start_seconds: From starting its process until it was loaded.
        load_seconds: Loading alone, without starting the interpreter.
        memory_bytes: The most it held resident; 0 where that is not known.
        graph_bytes: Size of the graph it ran, weights included; 0 where that is not known.
        threads: Threads it was told to compute with.
        description: What ran.
        batching: Workload → how it was batched.
        stages: Workload → stage → seconds of a run; empty for systems that cannot say.
        accuracy: Of its answers to questions asked off the clock; None where answers mean nothing, and in
            throughput mode, whose answers are those of latency mode.
    """

    model: str
    name: str
    system: str
    variant: str
    mode: str
    status: Status = "measured"
    reason: str = ""
    start_seconds: float = 0.0
    load_seconds: float = 0.0
    memory_bytes: int = 0
    graph_bytes: int = 0
    threads: int = 0
    description: dict[str, str] = field(default_factory=dict)
    batching: dict[str, str] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    accuracy: Accuracy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the engine on its own, as pytest-benchmark measured it.

    Attributes:
        name: What.
        median: Seconds.
        iqr: The range of the middle half of its rounds, in seconds.
        rounds: How many.
        baseline: The median of the baseline before, in seconds; None where there was none.
    """

    name: str
    median: float
    iqr: float
    rounds: int
    baseline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRecord:
    """Everything about a measurement but its samples.

    Attributes:
        device: What was measured.
        quick: Whether it was a quick run.
        finished: Whether it came to its end; False where it was interrupted, or still goes on.
        cpu: The CPU.
        environment: Name → value.
        models: Name → what it is.
        defaults: Model → what FastSpan runs by default here.
        workloads: What was asked.
        peers: Who was asked.
        failures: What went wrong, for people.
        peaks: ``"fp32"``, ``"int8"`` → operations a second that a bare matrix product reaches.
        parts: Parts of the engine on their own.
    """

    device: Device
    quick: bool
    finished: bool
    cpu: Cpu
    environment: Mapping[str, str]
    models: Mapping[str, str]
    defaults: Mapping[str, DefaultVariant]
    workloads: tuple[MeasuredWorkload, ...]
    peers: tuple[MeasuredPeer, ...]
    failures: tuple[str, ...]
    peaks: Mapping[str, float]
    parts: tuple[Part, ...]

    def write(self, folder: Path) -> None:
        """Write it as ``speed-DEVICE.json``."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False)
        write_text(folder / f"speed-{self.device}.json", text + "\n")

    @classmethod
    def read(cls, path: Path) -> SpeedRecord:
        """Read what ``write`` wrote.

        Raises:
            DataError: The file is no such record.
        """
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            sets = tuple(record["cpu"].pop("instruction_sets"))
            record["cpu"] = Cpu(**record["cpu"], instruction_sets=sets)
            record["defaults"] = {
                model: DefaultVariant(**chosen) for model, chosen in record["defaults"].items()
            }
            record["workloads"] = tuple(MeasuredWorkload(**workload) for workload in record["workloads"])
            for peer in record["peers"]:
                peer["accuracy"] = Accuracy(**peer["accuracy"]) if peer["accuracy"] else None
            record["peers"] = tuple(MeasuredPeer(**peer) for peer in record["peers"])
            record["parts"] = tuple(Part(**part) for part in record["parts"])
            record["failures"] = tuple(record["failures"])
            return cls(**record)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} is no record of a speed measurement ({error}); measure again."
            ) from error

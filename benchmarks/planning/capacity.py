"""Machines, hours and cost, from a record of ``make bench`` and a price."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastspan.benchmarks.planning.queueing import largest_rate
from fastspan.benchmarks.speed.record import MeasuredWorkload, SpeedRecord
from fastspan.benchmarks.speed.samples import samples_file
from fastspan.errors import DataError

__all__ = ["Bulk", "Machine", "Service", "plan_bulk", "plan_service", "read_machine"]

_BULK = "throughput"
_SECONDS_AN_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one machine was measured to do.

    Attributes:
        cpu: Its processor and cores, for people.
        model: The model.
        system: What ran it.
        quick: Whether the measurement was a quick one.
        bulk_system: What ran the bulk workload.
        bulk: That workload.
        bulk_seconds: Its runs, in seconds.
        single: One question, as a service gets it.
        single_seconds: Its runs, in seconds.
    """

    cpu: str
    model: str
    system: str
    quick: bool
    bulk_system: str
    bulk: MeasuredWorkload
    bulk_seconds: tuple[float, ...]
    single: MeasuredWorkload
    single_seconds: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Questions a second where many are to be answered and none is waited for."""
        return self.bulk.questions / float(np.median(self.bulk_seconds))

    @property
    def tokens(self) -> float:
        """Tokens of a window of the bulk workload, on average."""
        return self.bulk.tokens / self.bulk.windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """What many passages take.

    Attributes:
        rate: Passages a second and machine.
        machine_hours: Hours of one machine.
        machines: How many keep the time.
        cost: In the price's unit.
    """

    rate: float
    machine_hours: float
    machines: int
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a service takes.

    Attributes:
        rate: Questions a second that one machine may get.
        busy: The share of the time that it then computes.
        machines: How many there have to be.
        hourly_cost: In the price's unit.
    """

    rate: float
    busy: float
    machines: int
    hourly_cost: float


def read_machine(
    path: Path, *, model: str | None = None, system: str | None = None, workload: str = "single-128"
) -> Machine:
    """Read what a machine was measured to do.

    Args:
        path: The record, ``speed-cpu.json`` or ``speed-cuda.json``; its samples lie beside it.
        model: The model; None: the record's first.
        system: What runs it, such as ``"FastSpan int8"``; None: FastSpan with the variant it takes there.
        workload: What a service is asked.

    Raises:
        DataError: It is no such record, or does not hold what is asked for.
    """
    record = SpeedRecord.read(path)
    names = list(record.models)
    model = model or names[0]
    if model not in record.defaults:
        raise DataError(f"{path} holds no model {model!r}; it holds {', '.join(names)}.")
    system = system or f"FastSpan {record.defaults[model].variant}"
    workloads = {each.name: each for each in record.workloads if each.model == model}
    for name in (_BULK, workload):
        if name not in workloads:
            raise DataError(f"{path} holds no workload {name!r}; it holds {', '.join(workloads)}.")
    seconds = _samples(samples_file(path.parent, record.device), model)
    side_by_side = f"{system}, throughput"
    bulk_system = side_by_side if (side_by_side, _BULK) in seconds else system
    for key in ((bulk_system, _BULK), (system, workload)):
        if key not in seconds:
            there = ", ".join(sorted({name for name, _ in seconds}))
            raise DataError(f"{path} has no samples of {key[0]!r} at {key[1]}; it has those of {there}.")
    return Machine(
        cpu=f"{record.cpu.name}, {record.cpu.cores} cores",
        model=model,
        system=system,
        quick=record.quick,
        bulk_system=bulk_system,
        bulk=workloads[_BULK],
        bulk_seconds=seconds[bulk_system, _BULK],
        single=workloads[workload],
        single_seconds=seconds[system, workload],
    )


def plan_bulk(
    machine: Machine, passages: float, hours: float, price: float, tokens: float | None = None
) -> Bulk:
    """Say what it takes to answer a question of each of many passages.

    Args:
        machine: The machine.
        passages: How many; one window each.
        hours: Within how many hours.
        price: Of a machine and hour.
        tokens: Tokens of a window; None: those of the measured workload. The rate is taken to fall as the
            tokens grow, which holds about as far as windows are alike.
    """
    rate = machine.rate * (1 if tokens is None else machine.tokens / tokens)
    total = passages / rate / _SECONDS_AN_HOUR
    return Bulk(rate=rate, machine_hours=total, machines=math.ceil(total / hours), cost=total * price)


def plan_service(machine: Machine, rate: float, limit: float, price: float) -> Service:
    """Say what it takes to answer questions in time, 99 of 100.

    Each machine gets its share of the questions at random and answers one at a time.

    Args:
        machine: The machine.
        rate: Questions a second, of all machines.
        limit: Seconds for the 99th percentile.
        price: Of a machine and hour.

    Raises:
        InputError: One answer alone takes too long.
    """
    each = largest_rate(machine.single_seconds, limit)
    machines = math.ceil(rate / each)
    return Service(
        rate=each,
        busy=rate / machines * float(np.mean(machine.single_seconds)),
        machines=machines,
        hourly_cost=machines * price,
    )


def _samples(path: Path, model: str) -> dict[tuple[str, str], tuple[float, ...]]:
    """Return the seconds of every run, by system and workload."""
    found: dict[tuple[str, str], list[float]] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            sample = json.loads(line)
            if sample["model"] == model:
                found.setdefault((sample["peer"], sample["workload"]), []).extend(sample["seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no samples ({error}); it lies beside the record.") from error
    return {key: tuple(seconds) for key, seconds in found.items()}

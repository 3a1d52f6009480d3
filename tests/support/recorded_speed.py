"""A small measurement as the suite leaves it behind, with made-up figures."""

from __future__ import annotations

import random
from pathlib import Path

from fastspan.benchmarks.speed.answers import Answered, answers_file
from fastspan.benchmarks.speed.interleaving import Turn
from fastspan.benchmarks.speed.record import (
    Accuracy,
    Cpu,
    DefaultVariant,
    MeasuredPeer,
    MeasuredWorkload,
    Part,
    SpeedRecord,
)
from fastspan.benchmarks.speed.samples import sample_line, samples_file

MODEL = "minilm-l6-squad2"
STAGES = {"encode": 2e-4, "plan": 1e-5, "run": 8e-3, "decode": 1.5e-4, "other": 2e-5}
# System, variant, mode, milliseconds at 128 tokens.
PEERS = (
    ("FastSpan", "fp32", "latency", 20.0),
    ("FastSpan", "fp32", "throughput", 20.0),
    ("FastSpan", "int8", "latency", 8.0),
    ("FastSpan", "int8", "throughput", 8.0),
    ("transformers", "fp32", "latency", 40.0),
    ("optimum", "fp32", "latency", 24.0),
    ("optimum", "int8 avx2", "latency", 14.0),
    ("OpenVINO", "int8 (NNCF)", "latency", 9.0),
)
# Of 367 questions, how many each answers as in fp32.
QUESTIONS = 367
EQUAL = {"FastSpan int8": 361, "optimum int8 avx2": 357, "OpenVINO int8 (NNCF)": 345}
MISSING = "The environment 'haystack' cannot be installed: no such version"
FAILURE = "minilm-l6-squad2, one question, 32 tokens: optimum fp32 could not run: RuntimeError: broke"


def workloads() -> tuple[MeasuredWorkload, ...]:
    return tuple(
        MeasuredWorkload(
            model=MODEL,
            name=name,
            title=title,
            group=group,
            questions=questions,
            windows=questions,
            tokens=tokens,
            flops=2.2e7 * tokens,
        )
        for name, title, group, questions, tokens in (
            ("single-32", "one question, 32 tokens", "single", 1, 32),
            ("single-128", "one question, 128 tokens", "single", 1, 128),
            ("throughput", "64 questions over passages of all lengths", "batch", 64, 64 * 180),
        )
    )


def peer_name(system: str, variant: str, mode: str) -> str:
    return f"{system} {variant}" + (", throughput" if mode == "throughput" else "")


def answers_of(name: str) -> list[str]:
    """The answers of fp32, but for some that another precision gives differently."""
    equal = EQUAL.get(name, QUESTIONS)
    return [f"answer {n}" if n < equal else f"another {n}" for n in range(QUESTIONS)]


def write_recorded(
    folder: Path, *, device="cpu", rounds=8, per_turn=3, background=0.02, finished=True, systems=PEERS
) -> Path:
    """Write a record and its samples; returns ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(5)
    peers = [
        MeasuredPeer(
            model=MODEL,
            name=peer_name(system, variant, mode),
            system=system,
            variant=variant,
            mode=mode,
            start_seconds=1.25,
            load_seconds=0.5,
            memory_bytes=180_000_000,
            graph_bytes=90_000_000 if system == "FastSpan" else 0,
            threads=2,
            description={"onnxruntime": "1.32.0", "providers": "CPUExecutionProvider"},
            batching={"single-32": "1", "single-128": "1", "throughput": "8"},
            stages={"single-128": STAGES} if (system, mode) == ("FastSpan", "latency") else {},
            accuracy=Accuracy(
                questions=QUESTIONS,
                exact=70.0 + speed / 40,
                f1=75.0 + speed / 40,
                f1_low=71.0 + speed / 40,
                f1_high=79.0 + speed / 40,
            )
            if mode == "latency"
            else None,
        )
        for system, variant, mode, speed in systems
    ]
    absent = MeasuredPeer(
        model=MODEL,
        name="Haystack fp32",
        system="Haystack",
        variant="fp32",
        mode="latency",
        status="missing",
        reason=MISSING,
    )
    SpeedRecord(
        device=device,
        quick=True,
        finished=finished,
        cpu=Cpu(kind="some-avx2", name="a CPU", cores=2, instruction_sets=("avx2", "fma")),
        environment={
            "CPU": "a CPU, 2 usable cores",
            "memory": "8 GiB",
            "command": "python -m x --quick",
            "onnxruntime": "1.32.0" if device == "cpu" else "not installed",
            "onnxruntime-gpu": "1.31.1" if device == "gpu" else "not installed",
        },
        models={MODEL: "the bundled checkpoint"},
        defaults={MODEL: DefaultVariant(variant="int8", reason="int8, because this CPU has vnni.")},
        workloads=workloads(),
        peers=(*peers, absent),
        failures=(FAILURE,),
        peaks={"fp32": 2e11, "int8": 8e11},
        parts=(Part(name="encode one pair", median=2e-4, iqr=1e-5, rounds=50, baseline=1e-4),),
    ).write(folder)
    answered = [
        Answered.of(MODEL, peer.name, answers_of(peer.name)) for peer in peers if peer.mode == "latency"
    ]
    answers_file(folder, device).write_text("".join(given.line() for given in answered), encoding="utf-8")
    with samples_file(folder, device).open("w", encoding="utf-8") as file:
        for workload in workloads():
            for number in range(rounds):
                for system, variant, mode, speed in systems:
                    if workload.group == "single" and mode == "throughput":
                        continue
                    count = per_turn if workload.group == "single" else 1
                    middle = speed * workload.tokens / 128 / 1e3
                    seconds = tuple(middle * generator.uniform(0.97, 1.05) for _ in range(count))
                    turn = Turn(
                        peer=peer_name(system, variant, mode),
                        round=number,
                        seconds=seconds,
                        cpu_seconds=tuple(2 * value for value in seconds),
                        elapsed=sum(seconds),
                        stopped_cpu_seconds=0.0,
                        foreign_cpu_seconds=background * sum(seconds),
                    )
                    file.write(sample_line(MODEL, workload.name, turn))
    return folder

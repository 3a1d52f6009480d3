"""One whole measurement of speed: every peer, workload and model, and the record of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.peers.catalogue import OURS, PeerSpec, cpu_peers, gpu_peers
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet, open_data
from fastspan.benchmarks.questions.squad_files import Question
from fastspan.benchmarks.questions.workloads import Workload, make_workloads, spread, throughput_workload
from fastspan.benchmarks.reporting.files import make_folder, write_text
from fastspan.benchmarks.speed.answers import Device, answers_file
from fastspan.benchmarks.speed.engine_parts import measure_parts
from fastspan.benchmarks.speed.environment import (
    capture,
    default_command,
    default_variants,
    describe_cpu,
    gpu_name,
    results_folder,
)
from fastspan.benchmarks.speed.interleaving import Schedule, Turn
from fastspan.benchmarks.speed.measurement import Measurement, Plan
from fastspan.benchmarks.speed.models import BUNDLED, RANDOM, SpeedModel, bundled_model, random_model
from fastspan.benchmarks.speed.record import (
    DefaultVariant,
    MeasuredWorkload,
    Part,
    SpeedRecord,
    sample_line,
    samples_file,
)
from fastspan.bundle.folder import Bundle
from fastspan.bundle.variants import VariantName
from fastspan.errors import FastSpanError, InputError, ProviderError
from fastspan.machine.cpu import cpu_features, usable_cores
from fastspan.runtime.providers import available_providers
from fastspan.text.encoder import Encoder

__all__ = ["SuiteOptions", "SuiteRun"]

# A part of SQuAD 2.0's dev set, where it lies beside the project.
_SQUAD_PART = ROOT.parent / "shared" / "data" / "squad2-dev-part.json"

_QUICK = Schedule(least=3, most=7, seconds=10, per_turn=2, unrecorded=1, long=0.3)
_FULL = Schedule(least=6, most=25, seconds=240, per_turn=5, unrecorded=1, warmups=2)
# What a peer may take for one request. The quick run's ten minutes are not to be spent on one that hangs.
_QUICK_TIMEOUT_S, _FULL_TIMEOUT_S = 120.0, 600.0
# Questions of the throughput workload, quick and full. The large model takes about eight times as long.
_QUESTIONS = {BUNDLED: (16, 400), RANDOM: (4, 32)}
# Questions whose answers are compared and scored, off the clock, quick and full. Quick, as many as the
# project's own set has: that takes all peers about two minutes on two cores without an 8-bit dot product.
_SCORED = (367, 1000)
# Workloads of quick mode: the others alone would take half of its ten minutes.
_QUICK_WORKLOADS = ("single-32", "single-128", "single-384", "throughput")
_PEAKS_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """What is measured.

    Attributes:
        quick: In under ten minutes: fewer peers, fewer repeats.
        device: ``"cpu"`` or ``"gpu"``.
        data: Questions to ask; None: a part of SQuAD 2.0 where it is at hand, else the project's own.
        threads: Threads of every peer; None: the usable cores.
        peers: Only FastSpan and peers whose name holds this.
        models: Only models whose name holds this.
        workloads: Only workloads whose name holds this.
        rounds: Rounds of every workload, at most; None: what quick or full runs take.
        parts: Whether to measure the engine's parts on their own as well.
    """

    quick: bool = False
    device: Device = "cpu"
    data: Path | None = None
    threads: int | None = None
    peers: str = ""
    models: str = ""
    workloads: str = ""
    rounds: int | None = None
    parts: bool = True

    def __post_init__(self) -> None:
        for name in ("threads", "rounds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}.")

    def plan(self) -> Plan:
        """Return how much that is."""
        schedule = _QUICK if self.quick else _FULL
        if self.rounds is not None:
            schedule = replace(schedule, most=self.rounds, least=min(schedule.least, self.rounds))
        return Plan(
            schedule=schedule,
            threads=self.threads or usable_cores(),
            timeout=_QUICK_TIMEOUT_S if self.quick else _FULL_TIMEOUT_S,
        )


class SuiteRun:
    """One measurement, from the models to the record.

    The record is written when sampling begins and again with every workload, so that whatever ends the run
    early, the samples taken until then have a record that goes with them.

    Args:
        options: What to measure.
        root: Where results are kept, of each kind of hardware in a folder of its own.

    Attributes:
        folder: The folder of this hardware.
    """

    def __init__(self, options: SuiteOptions, root: Path) -> None:
        self._options = options
        self.folder = results_folder(root, options.device)
        self._began = time.monotonic()
        self._plan = options.plan()
        self._environment: dict[str, str] = {}
        self._defaults: dict[str, DefaultVariant] = {}
        self._models: list[SpeedModel] = []
        self._workloads: list[MeasuredWorkload] = []
        self._measurements: list[Measurement] = []
        self._failures: list[str] = []
        self._peaks: dict[str, float] = {}

    def measure(self) -> None:
        """Measure everything and write the record.

        Raises:
            DataError: The questions cannot be read, or are too few.
            InputError: An option leaves nothing to measure, or the bundled checkpoint is not exported.
            ProviderError: The GPU was asked for, and none can be used.
        """
        on_gpu = self._options.device == "gpu"
        if on_gpu and (gpu_name() is None or "CUDAExecutionProvider" not in available_providers()):
            raise ProviderError(
                "No NVIDIA GPU, or no onnxruntime that runs on it, is at hand: run `make bench-gpu` on a "
                "machine with one; `fastspan doctor` shows what is missing."
            )
        data = open_data(self._options.data or (_SQUAD_PART if _SQUAD_PART.is_file() else None))
        specs = self._specs()
        self._models = self._prepared_models()
        self._defaults = default_variants(self._models, self._options.device)
        self._environment = {
            **capture(self._models, default_command()),
            "questions": f"{data.name}, {len(data.questions):,} questions, sha256 {data.sha256}",
        }
        if not on_gpu:
            self._measure_peaks()
        make_folder(self.folder)
        with samples_file(self.folder, self._options.device).open("w", encoding="utf-8") as samples:
            self._keep()
            for model in self._models:
                self._measure_model(model, specs, data, samples)
        if not on_gpu:
            # The machine may have been slowed meanwhile; its best is what counts as its peak.
            self._measure_peaks()
            self._keep()
        self._keep(self._measure_parts(), finished=True)
        self._say(f"measured in {(time.monotonic() - self._began) / 60:.1f} min")

    def _keep(self, parts: tuple[Part, ...] = (), *, finished: bool = False) -> None:
        """Write the record of what was measured until now, and what was answered."""
        answered = (given for done in self._measurements for given in done.answered)
        write_text(
            answers_file(self.folder, self._options.device), "".join(given.line() for given in answered)
        )
        SpeedRecord(
            device=self._options.device,
            quick=self._options.quick,
            finished=finished,
            cpu=describe_cpu(),
            environment=self._environment,
            defaults=self._defaults,
            models={model.name: model.title for model in self._models},
            workloads=tuple(self._workloads),
            peers=tuple(peer for done in self._measurements for peer in done.peers.values()),
            failures=(
                *(failure for done in self._measurements for failure in done.failures),
                *self._failures,
            ),
            peaks=self._peaks,
            parts=parts,
        ).write(self.folder)

    def _prepared_models(self) -> list[SpeedModel]:
        self._say("preparing the models")
        wanted = self._options.models
        variants: tuple[VariantName, ...] = (
            ("fp32", "fp16") if self._options.device == "gpu" else ("fp32", "int8")
        )
        chosen = []
        if wanted in BUNDLED:
            chosen.append(bundled_model())
        if wanted in RANDOM:
            chosen.append(random_model(variants))
        if not chosen:
            raise InputError(f"--models {wanted!r} leaves neither {BUNDLED} nor {RANDOM}.")
        return chosen

    def _specs(self) -> list[PeerSpec]:
        providers = tuple(available_providers())
        if self._options.device == "gpu":
            specs = gpu_peers(providers)
        else:
            specs = cpu_peers(cpu_features(), providers, quick=self._options.quick)
        wanted = self._options.peers.lower()
        if not any(wanted in spec.name.lower() for spec in specs):
            names = ", ".join(spec.name for spec in specs)
            raise InputError(f"--peers {self._options.peers!r} is in no peer's name; the peers are {names}.")
        return [spec for spec in specs if spec.system == OURS or wanted in spec.name.lower()]

    def _measure_model(
        self, model: SpeedModel, specs: list[PeerSpec], data: EvaluationSet, samples: TextIO
    ) -> None:
        workloads, scored, asked = self._workloads_of(model, data)

        def write(workload: str, turn: Turn) -> None:
            """Keep a turn at once, whatever becomes of the next."""
            samples.write(sample_line(model.name, workload, turn))
            samples.flush()

        with TemporaryDirectory(prefix="fastspan-bench-") as name:
            measurement = Measurement(model, self._plan, record=write, say=self._say, folder=Path(name))
            self._measurements.append(measurement)
            try:
                with closing(measurement):
                    measurement.start(_asked(specs, workloads))
                    for workload in workloads:
                        self._workloads.append(_described(model, workload))
                        self._keep()
                        measurement.run(workload)
                        if model.trained and workload.name == "throughput":
                            self._say(f"{model.name}: scoring {scored.title}")
                            measurement.score(scored, asked)
            finally:
                # With the memory that closing noted.
                self._keep()

    def _workloads_of(
        self, model: SpeedModel, data: EvaluationSet
    ) -> tuple[list[Workload], Workload, list[Question]]:
        """All workloads to measure a model with, the one to score it with, and the latter's questions."""
        encoder = Encoder.of_bundle(Bundle.open(model.bundle))
        timed, asked = (
            spread(data.questions, quick if self._options.quick else full)
            for quick, full in (_QUESTIONS[model.name], _SCORED)
        )
        made = make_workloads(encoder, data.questions, throughput=timed)
        if self._options.quick:
            made = [workload for workload in made if workload.name in _QUICK_WORKLOADS]
        chosen = [workload for workload in made if self._options.workloads in workload.name]
        if not chosen:
            names = ", ".join(workload.name for workload in made)
            raise InputError(f"--workloads {self._options.workloads!r} leaves none of {names}.")
        return chosen, throughput_workload(encoder, asked), asked

    def _measure_peaks(self) -> None:
        """Measure the machine's matrix products, and keep the best of every time."""
        self._say("measuring this machine's matrix products")
        try:
            done = subprocess.run(
                [sys.executable, "-m", "fastspan.benchmarks.speed.matrix_peaks", str(self._plan.threads)],
                capture_output=True,
                text=True,
                timeout=_PEAKS_TIMEOUT_S,
                check=True,
            )
        except subprocess.SubprocessError as error:
            self._failures.append(f"Matrix products could not be measured: {error}")
            return
        for kind, found in json.loads(done.stdout).items():
            self._peaks[kind] = max(found, self._peaks.get(kind, 0.0))

    def _measure_parts(self) -> tuple[Part, ...]:
        if not self._options.parts:
            return ()
        self._say("measuring the engine's parts on their own")
        try:
            return measure_parts(self.folder / "parts", quick=self._options.quick)
        except FastSpanError as error:
            self._failures.append(str(error))
            return ()

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:5.0f} s] {text}", file=sys.stderr, flush=True)


def _asked(specs: Sequence[PeerSpec], workloads: Sequence[Workload]) -> list[PeerSpec]:
    """The peers, those that no workload asks left out."""
    groups = {workload.group for workload in workloads}
    unasked = "no workload of this run is for it"
    return [
        spec if spec.absent or groups.intersection(spec.groups) else replace(spec, absent=unasked)
        for spec in specs
    ]


def _described(model: SpeedModel, workload: Workload) -> MeasuredWorkload:
    return MeasuredWorkload(
        model=model.name,
        name=workload.name,
        title=workload.title,
        group=workload.group,
        questions=workload.questions,
        windows=len(workload.tokens),
        tokens=sum(workload.tokens),
        flops=model.flops(workload.tokens),
    )

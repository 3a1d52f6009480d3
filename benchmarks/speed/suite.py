"""One whole measurement of speed: every peer, workload and model, and the record of it."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.peers.catalogue import PeerSpec
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet, open_data
from fastspan.benchmarks.questions.workloads import Workload
from fastspan.benchmarks.reporting.files import make_folder, write_text
from fastspan.benchmarks.speed.answers import answers_file
from fastspan.benchmarks.speed.engine_parts import measure_parts
from fastspan.benchmarks.speed.interleaving import Turn
from fastspan.benchmarks.speed.machine.environment import (
    capture,
    default_command,
    default_variants,
    describe_cpu,
    gpu_name,
)
from fastspan.benchmarks.speed.measurement import Measurement
from fastspan.benchmarks.speed.models.measured import SpeedModel
from fastspan.benchmarks.speed.record import DefaultVariant, MeasuredWorkload, Part, SpeedRecord
from fastspan.benchmarks.speed.samples import sample_line, samples_file
from fastspan.benchmarks.speed.subjects import Subjects, asked_peers, named_peers, named_workloads
from fastspan.benchmarks.speed.suite_options import SuiteOptions
from fastspan.errors import FastSpanError, ProviderError
from fastspan.runtime.providers import available_providers

__all__ = ["SuiteRun"]

# A part of SQuAD 2.0's dev set, where it lies beside the project.
_SQUAD_PART = ROOT.parent / "shared" / "data" / "squad2-dev-part.json"


class SuiteRun:
    """One measurement, from the models to the record.

    The record is written when sampling begins and again with every workload, so that whatever ends the run
    early, the samples taken until then have a record that goes with them.

    Args:
        options: What to measure.
        root: Where results are kept, of each kind of hardware in a folder of its own.
        subjects: What there is to measure; None: all of it.

    Attributes:
        folder: The folder of this hardware.
    """

    def __init__(self, options: SuiteOptions, root: Path, subjects: Subjects | None = None) -> None:
        self._options = options
        self._subjects = subjects or Subjects()
        self.folder = self._subjects.folder(root, options)
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
        specs = named_peers(self._subjects.peers(self._options), self._options.peers)
        self._say("preparing the models")
        self._models = self._subjects.models(self._options)
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

    def _measure_model(
        self, model: SpeedModel, specs: list[PeerSpec], data: EvaluationSet, samples: TextIO
    ) -> None:
        asked = self._subjects.asked(model, data, self._options)
        workloads = named_workloads(asked.timed, self._options.workloads)

        def write(workload: str, turn: Turn) -> None:
            """Keep a turn at once, whatever becomes of the next."""
            samples.write(sample_line(model.name, workload, turn))
            samples.flush()

        with TemporaryDirectory(prefix="fastspan-bench-") as name:
            measurement = Measurement(model, self._plan, record=write, say=self._say, folder=Path(name))
            self._measurements.append(measurement)
            try:
                with closing(measurement):
                    measurement.start(asked_peers(specs, workloads))
                    for workload in workloads:
                        self._workloads.append(_described(model, workload))
                        self._keep()
                        measurement.run(workload)
                        if model.trained and workload.name == "throughput":
                            self._say(f"{model.name}: scoring {asked.scored.title}")
                            measurement.score(asked.scored, asked.questions)
            finally:
                # With the memory that closing noted.
                self._keep()

    def _measure_peaks(self) -> None:
        """Measure the machine's matrix products, and keep the best of every time."""
        self._say("measuring this machine's matrix products")
        try:
            peaks = self._subjects.peaks(self._plan.threads)
        except subprocess.SubprocessError as error:
            self._failures.append(f"Matrix products could not be measured: {error}")
            return
        for kind, found in peaks.items():
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

"""``make bench``: measures FastSpan and its peers side by side and writes the report."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fastspan.benchmarks.environment import capture, default_command, gpu_name
from fastspan.benchmarks.eval_data import open_data
from fastspan.benchmarks.measuring import Measurement, Plan
from fastspan.benchmarks.parts import measure_parts
from fastspan.benchmarks.peers.catalogue import OURS, PeerSpec, cpu_peers, gpu_peers
from fastspan.benchmarks.report import write_report
from fastspan.benchmarks.results import make_folder
from fastspan.benchmarks.runner import Rounds, Turn
from fastspan.benchmarks.speed_models import BUNDLED, RANDOM, ROOT, SpeedModel, bundled_model, random_model
from fastspan.benchmarks.speed_record import (
    Device,
    MeasuredPeer,
    MeasuredWorkload,
    Part,
    SpeedRecord,
    sample_line,
    samples_file,
)
from fastspan.benchmarks.squad_data import Question
from fastspan.benchmarks.workloads import Workload, make_workloads, spread
from fastspan.bundle import Bundle
from fastspan.cpu import cpu_features, usable_cores
from fastspan.encoding import Encoder
from fastspan.errors import FastSpanError, InferenceError, InputError, ProviderError
from fastspan.providers import available_providers
from fastspan.variants import VariantName

__all__ = ["main"]

# A part of SQuAD 2.0's dev set, where it lies beside the project.
_SQUAD_PART = ROOT.parent / "shared" / "data" / "squad2-dev-part.json"
_RESULTS = ROOT / "benchmarks" / "results"
_DEFAULT_PRICE = 0.10

_QUICK = Rounds(least=3, most=7, seconds=12, per_turn=3, unrecorded=1)
_FULL = Rounds(least=5, most=25, seconds=240, per_turn=5, unrecorded=1, warmups=2)
# Questions of the throughput workload, quick and full. The large model takes about eight times as long.
_QUESTIONS = {BUNDLED: (64, 400), RANDOM: (8, 64)}
# What quick mode asks the large model: its long workloads alone would take half of the ten minutes.
_QUICK_LARGE = ("single-32", "single-128", "single-384", "throughput")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the record and the report, and say where they are."""
    options = _parser().parse_args(arguments)
    try:
        folder = make_folder(options.out).resolve()
        if not options.report_only:
            _Suite(options, folder).measure()
        written = write_report(folder, price_per_hour=options.price_per_hour)
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(str(path) for path in written))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fastspan.benchmarks.suite", description=__doc__)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="under ten minutes: fewer peers, fewer repeats")
    kind.add_argument("--gpu", action="store_true", help="measure on an NVIDIA GPU instead of the CPU")
    kind.add_argument(
        "--report-only", action="store_true", help="write the report from what was measured before"
    )
    add = parser.add_argument
    add("--data", type=Path, help="questions to ask, in SQuAD's format")
    add("--threads", type=int, help="threads of every peer (default: the usable cores)")
    add("--peers", default="", metavar="TEXT", help="only FastSpan and peers whose name holds TEXT")
    add("--models", default="", metavar="TEXT", help="only models whose name holds TEXT")
    add("--workloads", default="", metavar="TEXT", help="only workloads whose name holds TEXT")
    add("--rounds", type=int, help="rounds of every workload, at most")
    add("--no-parts", action="store_true", help="leave out the engine's parts on their own")
    add(
        "--price-per-hour",
        type=float,
        default=_DEFAULT_PRICE,
        metavar="PRICE",
        help="of this machine, in any currency, for the cost of a million questions (default: %(default)s)",
    )
    add("--out", type=Path, default=_RESULTS, help="folder for the results (default: benchmarks/results)")
    return parser


class _Suite:
    """One measurement, from the models to the record."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._quick: bool = options.quick
        self._device: Device = "gpu" if options.gpu else "cpu"
        self._began = time.monotonic()
        rounds = _QUICK if options.quick else _FULL
        if options.rounds is not None:
            if options.rounds < 1:
                raise InputError("--rounds must be at least 1.")
            rounds = replace(rounds, most=options.rounds, least=min(rounds.least, options.rounds))
        self._plan = Plan(rounds=rounds, threads=options.threads or usable_cores())
        self._peers: list[MeasuredPeer] = []
        self._workloads: list[MeasuredWorkload] = []
        self._failures: list[str] = []

    def measure(self) -> None:
        """Measure everything and write the record."""
        if self._options.gpu and (gpu_name() is None or "CUDAExecutionProvider" not in available_providers()):
            raise ProviderError(
                "No NVIDIA GPU, or no onnxruntime that runs on it, is at hand: run `make bench-gpu` on a "
                "machine with one; `fastspan doctor` shows what is missing."
            )
        models = self._models()
        environment = capture(models, default_command())
        peaks = {} if self._options.gpu else self._measure_peaks()
        with samples_file(self._folder, self._device).open("w", encoding="utf-8") as samples:
            for model in models:

                def keep(workload: str, turn: Turn, model: SpeedModel = model) -> None:
                    samples.write(sample_line(model.name, workload, turn))
                    samples.flush()

                self._measure_model(model, keep)
        if not self._options.gpu:
            # The machine may have been slowed meanwhile; its best is what counts as its peak.
            again = self._measure_peaks()
            peaks = {kind: max(value, again[kind]) for kind, value in peaks.items()}
        record = SpeedRecord(
            device=self._device,
            quick=self._quick,
            environment=environment,
            models={model.name: model.title for model in models},
            workloads=tuple(self._workloads),
            peers=tuple(self._peers),
            failures=tuple(self._failures),
            peaks=peaks,
            parts=(),
        )
        # Written before the parts as well: what took longest to measure is not to be lost with them.
        record.write(self._folder)
        parts = self._measure_parts()
        replace(record, parts=parts, failures=tuple(self._failures)).write(self._folder)
        self._say(f"measured in {(time.monotonic() - self._began) / 60:.1f} min")

    def _models(self) -> list[SpeedModel]:
        self._say("preparing the models")
        variants: tuple[VariantName, ...] = ("fp32", "fp16") if self._options.gpu else ("fp32", "int8")
        chosen = []
        if self._options.models in BUNDLED:
            chosen.append(bundled_model())
        if self._options.models in RANDOM:
            chosen.append(random_model(variants))
        if not chosen:
            raise InputError(f"--models {self._options.models!r} leaves neither {BUNDLED} nor {RANDOM}.")
        return chosen

    def _specs(self) -> list[PeerSpec]:
        providers = tuple(available_providers())
        if self._options.gpu:
            specs = gpu_peers(providers)
        else:
            specs = cpu_peers(cpu_features(), providers, quick=self._quick)
        wanted = self._options.peers.lower()
        return [spec for spec in specs if spec.system == OURS or wanted in spec.name.lower()]

    def _measure_model(self, model: SpeedModel, record: Callable[[str, Turn], None]) -> None:
        asked, workloads = self._workloads_of(model)
        for workload in workloads:
            self._workloads.append(
                MeasuredWorkload(
                    model=model.name,
                    name=workload.name,
                    title=workload.title,
                    group=workload.group,
                    questions=workload.questions,
                    windows=len(workload.tokens),
                    tokens=sum(workload.tokens),
                    flops=model.flops(workload.tokens),
                )
            )
        with TemporaryDirectory(prefix="fastspan-bench-") as name:
            measurement = Measurement(model, self._plan, record=record, say=self._say, folder=Path(name))
            with closing(measurement):
                measurement.start(self._specs())
                for workload in workloads:
                    measurement.run(workload)
                    if model.trained and workload.name == "throughput":
                        measurement.score(workload, asked)
        self._peers += measurement.peers.values()
        self._failures += measurement.failures

    def _workloads_of(self, model: SpeedModel) -> tuple[list[Question], list[Workload]]:
        manifest = Bundle.open(model.bundle).manifest
        encoder = Encoder.from_folder(
            model.bundle,
            segment_ids=manifest.model.segment_ids,
            max_positions=manifest.model.max_positions,
        )
        source = self._options.data or (_SQUAD_PART if _SQUAD_PART.is_file() else None)
        questions = open_data(source).questions
        quick, full = _QUESTIONS[model.name]
        asked = spread(questions, quick if self._quick else full)
        workloads = make_workloads(encoder, questions, throughput=asked)
        short = self._quick and not model.trained
        return asked, [
            workload
            for workload in workloads
            if self._options.workloads in workload.name and (not short or workload.name in _QUICK_LARGE)
        ]

    def _measure_peaks(self) -> dict[str, float]:
        self._say("measuring this machine's matrix products")
        try:
            done = subprocess.run(
                [sys.executable, "-m", "fastspan.benchmarks.gemm_peaks", str(self._plan.threads)],
                capture_output=True,
                text=True,
                timeout=300,
                check=True,
            )
        except subprocess.SubprocessError as error:
            raise InferenceError(f"Matrix products could not be measured: {error}") from error
        peaks: dict[str, float] = json.loads(done.stdout)
        return peaks

    def _measure_parts(self) -> tuple[Part, ...]:
        if self._options.no_parts:
            return ()
        self._say("measuring the engine's parts on their own")
        try:
            return measure_parts(self._folder / "parts", quick=self._quick)
        except FastSpanError as error:
            self._failures.append(str(error))
            return ()

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:5.0f} s] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""What the suite measures: models, systems, workloads, and the machine's bare matrix products."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastspan.benchmarks.peers.catalogue import OURS, PeerSpec, cpu_peers, gpu_peers
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet
from fastspan.benchmarks.questions.squad_files import Question
from fastspan.benchmarks.questions.workloads import Workload, make_workloads, spread, throughput_workload
from fastspan.benchmarks.speed.machine.environment import results_folder
from fastspan.benchmarks.speed.models.measured import BUNDLED, RANDOM, SpeedModel, bundled_model, random_model
from fastspan.benchmarks.speed.suite_options import SuiteOptions
from fastspan.bundle.folder import Bundle
from fastspan.bundle.variants import VariantName
from fastspan.errors import InputError
from fastspan.machine.cpu import cpu_features
from fastspan.runtime.providers import available_providers
from fastspan.text.encoder import Encoder

__all__ = ["Asked", "Subjects", "asked_peers", "named_peers", "named_workloads"]

# Questions of the throughput workload, quick and full. The large model takes about eight times as long.
_QUESTIONS = {BUNDLED: (16, 400), RANDOM: (4, 32)}
# A GPU is not filled by less, and answers them in the time that a CPU takes for a few.
_QUESTIONS_ON_GPU = 400
# Questions whose answers are compared and scored, off the clock, quick and full. Quick, as many as the
# project's own set has: that takes all peers about two minutes on two cores without an 8-bit dot product.
_SCORED = (367, 1000)
# Workloads of quick mode: the others alone would take half of its ten minutes.
_QUICK_WORKLOADS = ("single-32", "single-128", "single-384", "throughput")
_PEAKS_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a model is asked.

    Attributes:
        timed: The workloads that are measured.
        scored: One whose answers are compared, off the clock.
        questions: The questions of ``scored``.
    """

    timed: Sequence[Workload]
    scored: Workload
    questions: Sequence[Question]


class Subjects:
    """What there is to measure on this machine. ``SuiteRun`` takes another in its place."""

    def folder(self, root: Path, options: SuiteOptions) -> Path:
        """The folder of this hardware's results, within ``root``."""
        return results_folder(root, options.device)

    def models(self, options: SuiteOptions) -> list[SpeedModel]:
        """The models, exported.

        Raises:
            InputError: ``options.models`` is in no name, or the bundled checkpoint is not exported.
        """
        variants: tuple[VariantName, ...] = ("fp32", "fp16") if options.device == "gpu" else ("fp32", "int8")
        chosen = []
        if options.models in BUNDLED:
            chosen.append(bundled_model())
        if options.models in RANDOM:
            chosen.append(random_model(variants))
        if not chosen:
            raise InputError(f"--models {options.models!r} leaves neither {BUNDLED} nor {RANDOM}.")
        return chosen

    def peers(self, options: SuiteOptions) -> list[PeerSpec]:
        """The systems, FastSpan among them, before ``options.peers`` chooses some."""
        providers = tuple(available_providers())
        if options.device == "gpu":
            return gpu_peers(providers, quick=options.quick)
        return cpu_peers(cpu_features(), providers, quick=options.quick)

    def asked(self, model: SpeedModel, data: EvaluationSet, options: SuiteOptions) -> Asked:
        """What a model is asked, before ``options.workloads`` chooses some."""
        encoder = Encoder.of_bundle(Bundle.open(model.bundle))
        on_gpu = (_QUESTIONS_ON_GPU, _QUESTIONS_ON_GPU)
        asked = on_gpu if options.device == "gpu" else _QUESTIONS[model.name]
        timed, scored = (
            spread(data.questions, quick if options.quick else full) for quick, full in (asked, _SCORED)
        )
        made = make_workloads(encoder, data.questions, throughput=timed)
        if options.quick:
            made = [workload for workload in made if workload.name in _QUICK_WORKLOADS]
        return Asked(timed=made, scored=throughput_workload(encoder, scored), questions=scored)

    def peaks(self, threads: int) -> Mapping[str, float]:
        """Measure matrix products: kind of number → operations a second.

        Raises:
            subprocess.SubprocessError: They could not be measured.
        """
        done = subprocess.run(
            [sys.executable, "-m", "fastspan.benchmarks.speed.machine.matrix_peaks", str(threads)],
            capture_output=True,
            text=True,
            timeout=_PEAKS_TIMEOUT_S,
            check=True,
        )
        found: dict[str, float] = json.loads(done.stdout)
        return found


def asked_peers(specs: Sequence[PeerSpec], workloads: Sequence[Workload]) -> list[PeerSpec]:
    """Return the peers, those that no workload asks left out."""
    groups = {workload.group for workload in workloads}
    unasked = "no workload of this run is for it"
    return [
        spec if spec.absent or groups.intersection(spec.groups) else replace(spec, absent=unasked)
        for spec in specs
    ]


def named_peers(specs: Sequence[PeerSpec], wanted: str) -> list[PeerSpec]:
    """Return FastSpan and the peers whose name holds ``wanted``.

    Raises:
        InputError: There is none.
    """
    if not any(wanted.lower() in spec.name.lower() for spec in specs):
        names = ", ".join(spec.name for spec in specs)
        raise InputError(f"--peers {wanted!r} is in no peer's name; the peers are {names}.")
    return [spec for spec in specs if spec.system == OURS or wanted.lower() in spec.name.lower()]


def named_workloads(workloads: Sequence[Workload], wanted: str) -> list[Workload]:
    """Return the workloads whose name holds ``wanted``.

    Raises:
        InputError: There is none.
    """
    chosen = [workload for workload in workloads if wanted in workload.name]
    if not chosen:
        names = ", ".join(workload.name for workload in workloads)
        raise InputError(f"--workloads {wanted!r} leaves none of {names}.")
    return chosen

"""Runs every peer over every workload of a model, and keeps what comes of it, failures included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastspan.benchmarks.accuracy.squad_metric import per_question
from fastspan.benchmarks.intervals import mean_interval
from fastspan.benchmarks.peers.catalogue import OURS, PeerSpec
from fastspan.benchmarks.peers.environments import interpreter
from fastspan.benchmarks.peers.protocol import Job
from fastspan.benchmarks.questions.squad_files import Question
from fastspan.benchmarks.questions.workloads import Workload, save_workload
from fastspan.benchmarks.speed.answers import Answered
from fastspan.benchmarks.speed.interleaving import Schedule, Turn, interleave
from fastspan.benchmarks.speed.models.measured import SpeedModel
from fastspan.benchmarks.speed.peer_process import PeerError, PeerProcess
from fastspan.benchmarks.speed.record import Accuracy, MeasuredPeer
from fastspan.bundle.folder import Bundle
from fastspan.errors import MissingDependency

__all__ = ["Measurement", "Plan"]

_STAGE_REPEATS = 9
# Hundreds of questions take longer than any turn, and this is off the clock.
_SCORING_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        schedule: How often workloads of one question are asked.
        threads: Threads every peer computes with.
        timeout: Seconds that a peer may take over one request, a whole turn for one.
    """

    schedule: Schedule
    threads: int
    timeout: float = 600.0

    def for_workload(self, group: str) -> Schedule:
        """Return how often a workload of this group is asked.

        Short runs are repeated within a turn, behind one that is not recorded; long ones need neither.
        """
        if group == "single":
            return self.schedule
        return Schedule(least=self.schedule.least, most=self.schedule.most, seconds=self.schedule.seconds)


class Measurement:
    """Peers of one model, alive for as long as it is measured.

    Args:
        model: The model.
        plan: How much to measure.
        record: Given every turn with its workload's name, as soon as it is over.
        say: Told what happens.
        folder: Where the peers' output is kept while they run.
        interpreter: Returns the interpreter of a peer's environment.

    Attributes:
        peers: Name → what is known of it.
        answered: What each system answered off the clock.
        failures: What went wrong, for people.
    """

    def __init__(
        self,
        model: SpeedModel,
        plan: Plan,
        *,
        record: Callable[[str, Turn], None],
        say: Callable[[str], None],
        folder: Path,
        interpreter: Callable[[str], str] = interpreter,
    ) -> None:
        self._model = model
        self._plan = plan
        self._record = record
        self._say = say
        self._folder = folder
        self._interpreter = interpreter
        self._alive: dict[str, tuple[PeerSpec, PeerProcess]] = {}
        self._prepared: set[str] = set()
        self.peers: dict[str, MeasuredPeer] = {}
        self.answered: list[Answered] = []
        self.failures: list[str] = []

    def start(self, specs: Sequence[PeerSpec]) -> None:
        """Start every peer that can be had; for the others, note why not."""
        for number, spec in enumerate(specs):
            measured = MeasuredPeer(
                model=self._model.name,
                name=spec.name,
                system=spec.system,
                variant=spec.variant,
                mode=spec.mode,
                threads=self._plan.threads,
            )
            self.peers[spec.name] = measured
            if spec.absent is not None:
                measured.status, measured.reason = "left out", spec.absent
                continue
            self._say(f"{self._model.name}: starting {spec.name}")
            try:
                process = self._started(spec, self._folder / f"{self._model.name}-{number}.log")
            except MissingDependency as error:
                measured.status, measured.reason = "missing", str(error)
                self._say(str(error))
                continue
            except PeerError as failure:
                measured.status, measured.reason = "failed", str(failure)
                self.failures.append(f"{self._model.name}: {failure}")
                self._say(str(failure))
                continue
            measured.start_seconds, measured.load_seconds = process.start_seconds, process.load_seconds
            measured.description = process.description
            measured.graph_bytes = self._graph_bytes(process.description.get("graph", ""))
            self._alive[spec.name] = (spec, process)

    def run(self, workload: Workload) -> None:
        """Measure a workload on every peer that runs it."""
        taking_part = [process for spec, process in self._alive.values() if workload.group in spec.groups]
        path = self._folder / "workload.json"
        save_workload(workload, path)
        ready = []
        for process in taking_part:
            try:
                batching = process.ask("prepare", path=str(path))["batching"]
            except PeerError as failure:
                self._failed(process, workload, failure)
                continue
            self.peers[process.name].batching[workload.name] = batching
            ready.append(process)
        self._prepared = {process.name for process in ready}
        self._say(f"{self._model.name}: {workload.title}, {len(ready)} peers")
        interleave(
            ready,
            self._plan.for_workload(workload.group),
            failed=lambda process, failure: self._failed(process, workload, failure),
            record=lambda turn: self._record(workload.name, turn),
        )
        for spec, process in list(self._alive.values()):
            # Where runs overlap, stages do not add up to what passes on a clock.
            if process in ready and spec.system == OURS and spec.mode == "latency":
                self._stages(process, workload)

    def score(self, workload: Workload, questions: Sequence[Question]) -> None:
        """Keep and score what every system answers, off the clock, on all the threads that were measured.

        Batches are those of the workload that was run last.

        Args:
            workload: What to ask; more of it than is timed, because a few questions tell nothing.
            questions: The same, in its order, with reference answers.
        """
        path = self._folder / "scored.json"
        save_workload(workload, path)
        for spec, process in list(self._alive.values()):
            # In throughput mode it has the same graph, hence the same answers.
            if process.name not in self._prepared or spec.mode != "latency":
                continue
            try:
                timeout = max(self._plan.timeout, _SCORING_TIMEOUT_S)
                answers = process.ask("answers", timeout=timeout, path=str(path))["answers"]
            except PeerError as failure:
                self._failed(process, workload, failure)
                continue
            texts = {question.id: text for question, text in zip(questions, answers, strict=True)}
            exact, f1 = per_question(questions, texts)
            spread = mean_interval(100 * f1)
            self.peers[spec.name].accuracy = Accuracy(
                questions=len(questions),
                exact=100 * float(exact.mean()),
                f1=spread.estimate,
                f1_low=spread.low,
                f1_high=spread.high,
            )
            self.answered.append(Answered.of(self._model.name, process.name, answers))

    def close(self) -> None:
        """Note the peers' memory and end them."""
        for spec, process in self._alive.values():
            self.peers[spec.name].memory_bytes = process.memory()
            process.close()
        self._alive.clear()

    def _graph_bytes(self, file: str) -> int:
        """The size of a graph of the bundle with its weights; 0 where it has no such graph."""
        manifest = Bundle.open(self._model.bundle).manifest
        graphs = (graph for variant in manifest.variants.values() for graph in variant.graphs)
        found = next((graph for graph in graphs if graph.file == file), None)
        return sum(manifest.files[path].bytes for path in (found.file, *found.data)) if found else 0

    def _started(self, spec: PeerSpec, log: Path) -> PeerProcess:
        """Start a peer.

        Start it again where it first made something of the checkpoint, which took time and memory that no
        later start takes.
        """
        python = self._interpreter(spec.environment)
        before = self._made()
        while True:
            process = PeerProcess(
                spec.name,
                python=python,
                module=spec.module,
                job=self._job(spec).to_json(),
                log=log,
                timeout=self._plan.timeout,
            )
            made = self._made()
            if made == before:
                return process
            process.close()
            before = made

    def _made(self) -> set[str]:
        cache = self._model.cache
        return {path.name for path in cache.iterdir()} if cache.is_dir() else set()

    def _job(self, spec: PeerSpec) -> Job:
        return Job(
            checkpoint=self._model.checkpoint,
            bundle=self._model.bundle,
            cache=self._model.cache,
            threads=self._plan.threads,
            options=spec.options,
        )

    def _stages(self, process: PeerProcess, workload: Workload) -> None:
        try:
            stages = process.ask("stages", times=_STAGE_REPEATS if workload.group == "single" else 1)[
                "stages"
            ]
        except PeerError as failure:
            self._failed(process, workload, failure)
        else:
            self.peers[process.name].stages[workload.name] = stages

    def _failed(self, process: PeerProcess, workload: Workload, failure: PeerError) -> None:
        """Note a failure; the peer takes part in further workloads only if it can still be asked."""
        self._say(str(failure))
        if not process.usable and process.name in self._alive:
            del self._alive[process.name]
            process.close()
        self.failures.append(f"{self._model.name}, {workload.title}: {failure}")

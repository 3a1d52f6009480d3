"""FastSpan itself, through its public interface."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from dataclasses import asdict
from importlib.metadata import version

from fastspan import QuestionAnswerer
from fastspan.benchmarks.peers.protocol import MAX_ANSWER_TOKENS, MAX_LENGTH, OVERLAP, Job
from fastspan.benchmarks.questions.workloads import Workload
from fastspan.options import AnswerOptions
from fastspan.results import Prediction
from fastspan.stage_times import stage_times

__all__ = ["FastSpanPeer", "load"]

_OPTIONS = AnswerOptions(
    max_length=MAX_LENGTH,
    overlap=OVERLAP,
    max_answer_length=MAX_ANSWER_TOKENS,
    truncate_question=True,
)


class FastSpanPeer:
    """A loaded answerer."""

    def __init__(self, answerer: QuestionAnswerer) -> None:
        self._answerer = answerer

    def describe(self) -> dict[str, str]:
        """Say what runs."""
        info = self._answerer.info()
        return {
            "graph": info.graph,
            "providers": ", ".join(info.providers),
            "threads": str(info.threads),
            "onnxruntime": info.onnxruntime,
            "numpy": version("numpy"),
            "tokenizers": version("tokenizers"),
        }

    def prepare(self, workload: Workload) -> str:
        """Nothing to choose: the engine plans its batches by itself."""
        return "1" if len(workload.tokens) == 1 else "planned"

    def run(self, workload: Workload) -> list[str]:
        """Answer one by ``answer``, many by ``answer_many``."""
        return [
            "" if prediction.answer is None else prediction.answer.text
            for prediction in self._predict(workload)
        ]

    def stages(self, workload: Workload, repeats: int) -> dict[str, float]:
        """Return stage → median seconds of a run, in the calling thread.

        ``other`` is what lies between the stages.
        """
        if not workload.pairs:
            return {}
        seen: dict[str, list[float]] = defaultdict(list)
        for _ in range(repeats):
            began = time.perf_counter()
            with stage_times() as times:
                self._predict(workload)
            whole = time.perf_counter() - began
            spent = asdict(times)
            for stage, seconds in {**spent, "other": whole - sum(spent.values())}.items():
                seen[stage].append(seconds)
        return {stage: statistics.median(values) for stage, values in seen.items()}

    def _predict(self, workload: Workload) -> list[Prediction]:
        if len(workload.pairs) == 1:
            question, context = workload.pairs[0]
            return [self._answerer.answer(question, context, options=_OPTIONS)]
        return list(self._answerer.answer_many(workload.pairs, options=_OPTIONS))


def load(job: Job) -> FastSpanPeer:
    """Load the bundle."""
    return FastSpanPeer(
        QuestionAnswerer.load(
            job.bundle,
            variant=job.options["variant"],
            provider=job.options["provider"],
            optimize_for=job.options["optimize_for"],
            threads=job.threads,
        )
    )

"""FastSpan itself, through its public interface."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any
from unittest.mock import patch

import fastspan.answerer
import fastspan.decoding.squad
from fastspan import QuestionAnswerer
from fastspan.benchmarks.peers.protocol import MAX_ANSWER_TOKENS, MAX_LENGTH, OVERLAP, Job
from fastspan.benchmarks.questions.workloads import Workload
from fastspan.options import AnswerOptions
from fastspan.results import Prediction

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
        """Return stage → median seconds of a run, the stages' own functions wrapped in clocks.

        ``objects`` is decoding less the search for spans: character offsets, answers, predictions.
        ``other`` is what lies between the stages. Where runs overlap in threads, ``run`` is their sum.
        """
        if not workload.pairs:
            return {}
        seen: dict[str, list[float]] = defaultdict(list)
        for _ in range(repeats):
            clock = _Clock()
            began = time.perf_counter()
            with clock.around(self._answerer):
                self._predict(workload)
            whole = time.perf_counter() - began
            spent = clock.spent
            spent["objects"] = spent.pop("decode all") - spent["decode"]
            spent["other"] = whole - sum(spent.values())
            for stage, seconds in spent.items():
                seen[stage].append(seconds)
        return {stage: statistics.median(values) for stage, values in seen.items()}

    def _predict(self, workload: Workload) -> list[Prediction]:
        if len(workload.pairs) == 1:
            question, context = workload.pairs[0]
            return [self._answerer.answer(question, context, options=_OPTIONS)]
        return list(self._answerer.answer_many(workload.pairs, options=_OPTIONS))


class _Clock:
    """Adds up what the stages of an answerer take."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(("encode", "plan", "run", "decode", "decode all"), 0.0)

    def around(self, answerer: QuestionAnswerer) -> ExitStack:
        """Wrap the stages for as long as the returned context lasts."""
        stack = ExitStack()
        places: tuple[tuple[str, Any, str], ...] = (
            ("encode", fastspan.answerer, "_encode"),
            ("plan", fastspan.answerer, "_plan"),
            ("run", answerer._session, "run"),
            ("decode all", fastspan.answerer, "decode_squad"),
            ("decode", fastspan.decoding.squad, "top_spans"),
        )
        for stage, owner, name in places:
            stack.enter_context(patch.object(owner, name, self._timed(stage, getattr(owner, name))))
        return stack

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with what its calls take added to a stage."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            """The function; the seconds of a call that fails count as well."""
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent[stage] += time.perf_counter() - began

        return timed


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

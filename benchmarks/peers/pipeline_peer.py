"""A transformers question-answering pipeline as a peer, whatever runs its model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastspan.benchmarks.peers.protocol import MAX_ANSWER_TOKENS, MAX_LENGTH, OVERLAP
from fastspan.benchmarks.workloads import Workload

__all__ = ["PipelinePeer"]

_TRIED_ON = 16


class PipelinePeer:
    """A pipeline, asked for the same windows and answers as every other peer.

    Args:
        pipe: The pipeline.
        description: What it runs on.
        batch_sizes: Those to choose from; which is fastest is measured on the workload itself.
    """

    def __init__(self, pipe: Any, description: dict[str, str], batch_sizes: Sequence[int]) -> None:
        self._pipe = pipe
        self._description = description
        self._batch_sizes = batch_sizes
        self._batch_size = batch_sizes[0]

    def describe(self) -> dict[str, str]:
        """Say what runs."""
        return self._description

    def prepare(self, workload: Workload) -> str:
        """Choose the fastest batch size."""
        self._batch_size = self._batch_sizes[0]
        if len(workload.tokens) > 1:
            tried = {size: self._seconds(workload, size) for size in self._batch_sizes}
            self._batch_size = min(tried, key=lambda size: tried[size])
        return str(self._batch_size)

    def run(self, workload: Workload) -> list[str]:
        """Answer through the pipeline."""
        return self._answers(workload.pairs, self._batch_size)

    def _seconds(self, workload: Workload, batch_size: int) -> float:
        pairs = workload.pairs[:_TRIED_ON]
        # The first run of a batch size allocates and, where the model is compiled, compiles.
        self._answers(pairs, batch_size)
        began = time.perf_counter()
        self._answers(pairs, batch_size)
        return time.perf_counter() - began

    def _answers(self, pairs: Sequence[tuple[str, str]], batch_size: int) -> list[str]:
        found = self._pipe(
            question=[question for question, _ in pairs],
            context=[context for _, context in pairs],
            top_k=1,
            handle_impossible_answer=True,
            max_answer_len=MAX_ANSWER_TOKENS,
            max_seq_len=MAX_LENGTH,
            doc_stride=OVERLAP,
            batch_size=batch_size,
        )
        # It returns a bare dict where there was one question.
        results: list[dict[str, Any]] = [found] if isinstance(found, dict) else found
        return [str(result["answer"]) for result in results]

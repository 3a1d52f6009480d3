"""A transformers question-answering pipeline as a peer, whatever runs its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastspan.benchmarks.peers.protocol import MAX_ANSWER_TOKENS, MAX_LENGTH, OVERLAP
from fastspan.benchmarks.peers.systems.batch_choice import fastest_batch
from fastspan.benchmarks.questions.workloads import Workload

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
            self._batch_size = fastest_batch(
                self._batch_sizes, lambda size: self._answers(workload.pairs[:_TRIED_ON], size)
            )
        return str(self._batch_size)

    def run(self, workload: Workload) -> list[str]:
        """Answer through the pipeline."""
        return self._answers(workload.pairs, self._batch_size)

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

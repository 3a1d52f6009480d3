"""Haystack's extractive reader on PyTorch."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastspan.benchmarks.peers.protocol import MAX_LENGTH, OVERLAP, Job
from fastspan.benchmarks.peers.systems.batch_choice import fastest_batch
from fastspan.benchmarks.questions.workloads import Workload

__all__ = ["HaystackPeer", "load"]

_BATCH_SIZES = (1, 8)


class HaystackPeer:
    """A warmed-up reader, asked one question a run, as its interface has it."""

    def __init__(self, reader: Any, document: Any, description: dict[str, str]) -> None:
        self._reader = reader
        self._document = document
        self._description = description
        self._documents: dict[str, list[Any]] = {}
        self._batch_size = _BATCH_SIZES[0]

    def describe(self) -> dict[str, str]:
        """Say what runs."""
        return self._description

    def prepare(self, workload: Workload) -> str:
        """Make the documents, and choose the fastest batch size for the windows of one question."""
        self._documents = {context: [self._document(content=context)] for _, context in workload.pairs}
        self._batch_size = _BATCH_SIZES[0]
        if len(workload.tokens) > len(workload.pairs):
            longest = max(range(len(workload.pairs)), key=lambda i: len(workload.pairs[i][1]))
            question, context = workload.pairs[longest]
            self._batch_size = fastest_batch(
                _BATCH_SIZES, lambda size: self._answer(question, self._documents[context], size)
            )
        return str(self._batch_size)

    def run(self, workload: Workload) -> list[str]:
        """Answer question after question."""
        return [
            self._answer(
                question,
                # Those of questions that are asked off the clock were not made before.
                self._documents.get(context) or [self._document(content=context)],
                self._batch_size,
            )
            for question, context in workload.pairs
        ]

    def _answer(self, question: str, documents: list[Any], batch_size: int) -> str:
        found = self._reader.run(query=question, documents=documents, max_batch_size=batch_size)
        best = found["answers"][0] if found["answers"] else None
        return "" if best is None or best.data is None else str(best.data)


def load(job: Job) -> HaystackPeer:
    """Load the checkpoint into the reader, in fp32."""
    import torch
    from haystack import Document
    from haystack.utils import ComponentDevice
    from haystack_integrations.components.readers.transformers import TransformersExtractiveReader

    torch.set_num_threads(job.threads)
    reader = TransformersExtractiveReader(
        model=str(job.checkpoint),
        device=ComponentDevice.from_str(job.options["device"]),
        top_k=1,
        no_answer=True,
        max_seq_length=MAX_LENGTH,
        stride=OVERLAP,
        model_kwargs={"dtype": torch.float32},
    )
    reader.warm_up()
    description = {
        name: version(name) for name in ("haystack-ai", "transformers-haystack", "torch", "transformers")
    }
    return HaystackPeer(reader, Document, {**description, "threads": str(torch.get_num_threads())})

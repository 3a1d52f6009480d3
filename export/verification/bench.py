"""Runs graphs, and the checkpoint in PyTorch, on more and more questions, none of them twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from fastspan.bundle.manifest import Manifest
from fastspan.bundle.variants import Graph
from fastspan.errors import BundleError
from fastspan.export.progress import Progress
from fastspan.export.verification.comparison import (
    Comparison,
    LogitPairs,
    compare,
    logits_of,
    windows_of,
)
from fastspan.export.verification.graph_check import GraphCheck
from fastspan.export.verification.pytorch_reference import torch_logits
from fastspan.kernels import unavailable_reason as why_no_kernels
from fastspan.machine.cpu import cpu_features
from fastspan.runtime.kernel_session import KernelSession
from fastspan.runtime.session import OnnxSession, SessionSettings
from fastspan.text.encoder import EncodedPair

__all__ = ["Bench", "Compare", "runs_here"]

Compare = Callable[[Sequence[EncodedPair], LogitPairs, LogitPairs], Comparison]
"""Holds a graph's logits against its reference's; see ``comparison.compare``."""


class Bench:
    """Compares a bundle's graphs with their reference, on more and more questions.

    Each set of questions begins with the one before it, whose windows are not run again.

    Args:
        folder: Where the graphs and the tokenizer lie, laid out as in a bundle.
        manifest: What lies there.
        checkpoint: The checkpoint to run in PyTorch as the reference; None: the fp32 interchange graph is.
        threads: Threads to compute with.
        progress: Told what happens.
        compare: Holds logits against the reference's.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        checkpoint: Path | None,
        threads: int,
        progress: Progress,
        compare: Compare = compare,
    ) -> None:
        padding_id = json.loads((folder / "config.json").read_bytes()).get("pad_token_id") or 0
        self._folder = folder
        self._manifest = manifest
        self._checkpoint = checkpoint
        self._progress = progress
        self._compare = compare
        self._settings = SessionSettings(
            provider="CPUExecutionProvider", threads=threads, spinning=True, padding_id=padding_id
        )
        self._found: dict[str, LogitPairs] = {}

    def checks(
        self, pairs: Sequence[EncodedPair], variants: Collection[str] | None = None
    ) -> list[GraphCheck]:
        """Compare every graph that runs here on these questions; of some ``variants`` alone, or of all."""
        interchange = _interchange(self._folder, self._manifest)
        pytorch = self._checkpoint is not None
        reference = self._pytorch(pairs) if pytorch else self._run(interchange, pairs)
        checks = []
        for name, variant in self._manifest.variants.items():
            if variants is not None and name not in variants:
                continue
            for graph in variant.graphs:
                here = runs_here(graph)
                compared = here and (pytorch or graph is not interchange)
                found = self._compare(pairs, reference, self._run(graph, pairs)) if compared else None
                checks.append(
                    GraphCheck(
                        variant=name,
                        graph=graph,
                        reference="pytorch" if pytorch else "fp32",
                        runs_here=here,
                        comparison=found,
                    )
                )
        return checks

    def _run(self, graph: Graph, pairs: Sequence[EncodedPair]) -> LogitPairs:
        found, left = self._rest(graph.file, pairs)
        if left:
            kind = KernelSession if graph.target == "cpu-kernels" else OnnxSession
            session = kind(self._folder, graph, self._settings)
            with self._progress.bar(f"running {graph.file}", len(list(windows_of(left)))) as step:
                found += logits_of(session, left, step)
        return found

    def _pytorch(self, pairs: Sequence[EncodedPair]) -> LogitPairs:
        found, left = self._rest("pytorch", pairs)
        if left and self._checkpoint is not None:
            with self._progress.bar("running the PyTorch reference", len(list(windows_of(left)))) as step:
                found += torch_logits(
                    self._checkpoint,
                    left,
                    segment_ids=self._manifest.model.segment_ids,
                    threads=self._settings.threads,
                    step=step,
                )
        return found

    def _rest(self, name: str, pairs: Sequence[EncodedPair]) -> tuple[LogitPairs, Sequence[EncodedPair]]:
        """The logits there are already, and the questions that they do not cover."""
        found = self._found.setdefault(name, [])
        covered = 0
        for number, pair in enumerate(pairs):
            if covered >= len(found):
                return found, pairs[number:]
            covered += len(pair.windows)
        return found, []


def _interchange(folder: Path, manifest: Manifest) -> Graph:
    if "fp32" not in manifest.variants:
        raise BundleError(
            f"{folder} holds no fp32 variant to compare the others with: export the checkpoint again."
        )
    return manifest.variants["fp32"].graph_for("other")


def runs_here(graph: Graph) -> bool:
    """Whether this machine's CPU runs the graph."""
    if graph.target == "cpu-kernels":
        return why_no_kernels() is None
    if graph.target == "cpu-dot-product":
        return cpu_features().int8_dot_product is not None
    return graph.target != "cuda"

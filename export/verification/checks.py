"""Runs every graph of a bundle on the verification questions and compares it with a reference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import Manifest
from fastspan.bundle.onnx_files import check_graphs
from fastspan.bundle.variants import Graph, Parity, Variant
from fastspan.errors import BundleError
from fastspan.export.progress import Progress
from fastspan.export.verification.comparison import GATES, Comparison, Logits, compare, logits_of
from fastspan.export.verification.pytorch_reference import torch_logits
from fastspan.export.verification.questions import encode
from fastspan.machine.cpu import usable_cores
from fastspan.runtime.session import OnnxSession, SessionSettings
from fastspan.text.encoder import EncodedPair, Encoder

__all__ = ["GraphCheck", "measure", "misses", "not_run_here", "parity_of", "verify_bundle"]

# Verification runs each window through the reference and every graph. About so many multiplications are
# affordable: small models are compared on many questions, large ones on fewer.
_WORK = 6.5e10
_MOST_TOKENS = 6_500  # however small the model: for all that passes, more questions would say no more
# One answer of so few can decide, so a gate that is missed is judged once more: on this many times the work,
# which is most or all questions for small models, and on this many questions at least. How many there are
# depends on the model alone, never on what was found.
_WORK_OF_APPEAL = 10
_QUESTIONS_OF_APPEAL = 120

Reference = Literal["pytorch", "fp32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCheck:
    """What came of one graph.

    Attributes:
        variant: The variant it belongs to.
        graph: The graph.
        reference: What it was compared with: the checkpoint in PyTorch, or the bundle's fp32 graph.
        runs_here: Whether a CPU runs it; if not, it was left alone.
        comparison: How it differs; None where it does not run here or is itself the reference.
    """

    variant: str
    graph: Graph
    reference: Reference
    runs_here: bool
    comparison: Comparison | None

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it: what was not compared has missed no gate."""
        return self.comparison is None or GATES[self.variant].passed(self.comparison)


def measure(
    folder: Path,
    manifest: Manifest,
    *,
    checkpoint: Path | None,
    threads: int | None,
    progress: Progress,
    appeal: bool = True,
) -> list[GraphCheck]:
    """Run every graph that runs on this machine's CPU and compare its logits and answers.

    Where a graph misses its gate on the few questions that an export has time for, every graph is run once
    more on a larger set. What comes of that set is returned, for all graphs alike and whatever it is.

    Args:
        folder: Where the graphs and the tokenizer lie, laid out as in a bundle.
        manifest: What lies there.
        checkpoint: The checkpoint to run in PyTorch as the reference; None: the bundle's fp32 interchange
            graph is the reference.
        threads: Threads to compute with; None: the cores this process may use.
        progress: Told what happens.
        appeal: Whether to judge a missed gate on the larger set; False where nothing hangs on it.

    Returns:
        One check a graph, in the manifest's order.

    Raises:
        InferenceError: A graph does not load or run.
        CheckpointError: The checkpoint cannot be run in PyTorch.
    """
    model = manifest.model
    cores = threads or usable_cores()
    encoder = Encoder.from_folder(folder, segment_ids=model.segment_ids, max_positions=model.max_positions)
    lengths = manifest.max_length, manifest.overlap
    tokens = int(_WORK / max(1, 12 * model.layers * model.hidden_size**2))
    few = encode(encoder, min(tokens, _MOST_TOKENS), *lengths)
    checks = _measure_on(few, folder, manifest, checkpoint, cores, progress)
    if not appeal or all(check.passed for check in checks):
        return checks
    many = encode(encoder, tokens * _WORK_OF_APPEAL, *lengths, fewest=_QUESTIONS_OF_APPEAL)
    progress.stage(f"a gate is missed on {len(few)} questions: judging on {len(many)}")
    return _measure_on(many, folder, manifest, checkpoint, cores, progress)


def _measure_on(
    pairs: Sequence[EncodedPair],
    folder: Path,
    manifest: Manifest,
    checkpoint: Path | None,
    cores: int,
    progress: Progress,
) -> list[GraphCheck]:
    model = manifest.model
    run = _Runner(folder, pairs, cores, progress)
    interchange = _interchange(folder, manifest)
    if checkpoint is None:
        reference = run(interchange)
    else:
        with progress.bar("running the PyTorch reference", run.windows) as step:
            reference = torch_logits(
                checkpoint, pairs, segment_ids=model.segment_ids, threads=cores, step=step
            )
    checks = []
    for name, variant in manifest.variants.items():
        for graph in variant.graphs:
            runs_here = _runs_here(graph)
            is_reference = checkpoint is None and graph is interchange
            found = compare(pairs, reference, run(graph)) if runs_here and not is_reference else None
            checks.append(
                GraphCheck(
                    variant=name,
                    graph=graph,
                    reference="fp32" if checkpoint is None else "pytorch",
                    runs_here=runs_here,
                    comparison=found,
                )
            )
    return checks


def not_run_here(manifest: Manifest) -> list[str]:
    """The files of the graphs that this machine's CPU does not run, so that no comparison covers them."""
    return [
        graph.file
        for variant in manifest.variants.values()
        for graph in variant.graphs
        if not _runs_here(graph)
    ]


def verify_bundle(bundle: Bundle, *, threads: int | None, progress: Progress) -> list[GraphCheck]:
    """Check a bundle's files against their checksums, then its graphs against its fp32 interchange graph.

    Args:
        bundle: An opened bundle.
        threads: Threads to compute with; None: the cores this process may use.
        progress: Told what happens.

    Raises:
        ChecksumMismatch: A file is not the one that was exported.
        BundleError: A file cannot be read, or there is no fp32 graph to compare with.
        InferenceError: A graph does not load or run.
    """
    with progress.bar("checking checksums", len(bundle.promised)) as step:
        for path in bundle.promised:
            bundle.verified([path])
            step()
    check_graphs(bundle.folder, bundle.manifest.variants)
    return measure(bundle.folder, bundle.manifest, checkpoint=None, threads=threads, progress=progress)


def parity_of(checks: Sequence[GraphCheck]) -> Parity | None:
    """The worst of what a variant's graphs gave; None where none of them was compared."""
    found = [check.comparison for check in checks if check.comparison is not None]
    if not found:
        return None
    gate = GATES[checks[0].variant]
    return Parity(
        reference=checks[0].reference,
        questions=found[0].questions,
        windows=found[0].windows,
        max_logit_difference=max(comparison.largest_difference for comparison in found),
        equal_answers=min(comparison.equal_answers for comparison in found),
        gate=str(gate),
        passed=all(check.passed for check in checks),
        provider="CPUExecutionProvider",
    )


def misses(variants: Mapping[str, Variant]) -> list[str]:
    """Say of every variant that missed its gate by how much, for people."""
    return [
        f"{name} has {variant.parity.equal_answers:.1%} equal answers and a largest logit difference of "
        f"{variant.parity.max_logit_difference:.2g} over {variant.parity.questions} questions "
        f"(its gate: {variant.parity.gate})"
        for name, variant in variants.items()
        if variant.parity is not None and not variant.parity.passed
    ]


class _Runner:
    """Runs graphs of a folder over the same windows, with the same settings."""

    def __init__(self, folder: Path, pairs: Sequence[EncodedPair], threads: int, progress: Progress) -> None:
        padding_id = json.loads((folder / "config.json").read_bytes()).get("pad_token_id") or 0
        self.windows = sum(len(pair.windows) for pair in pairs)
        self._folder = folder
        self._pairs = pairs
        self._progress = progress
        self._settings = SessionSettings(
            provider="CPUExecutionProvider", threads=threads, spinning=True, padding_id=padding_id
        )

    def __call__(self, graph: Graph) -> Logits:
        session = OnnxSession(self._folder, graph, self._settings)
        with self._progress.bar(f"running {graph.file}", self.windows) as step:
            return logits_of(session, self._pairs, step)


def _interchange(folder: Path, manifest: Manifest) -> Graph:
    if "fp32" not in manifest.variants:
        raise BundleError(
            f"{folder} holds no fp32 variant to compare the others with: export the checkpoint again."
        )
    return manifest.variants["fp32"].graph_for("other")


def _runs_here(graph: Graph) -> bool:
    """Whether a CPU runs the graph."""
    return graph.target != "cuda"

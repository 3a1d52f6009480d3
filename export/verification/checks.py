"""Runs every graph of a bundle on the verification questions and compares it with a reference."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import Manifest
from fastspan.bundle.onnx_files import check_graphs
from fastspan.bundle.variants import Graph, Parity, Variant
from fastspan.errors import BundleError
from fastspan.export.progress import Progress
from fastspan.export.verification.comparison import (
    EXPORT_GATES,
    Comparison,
    LogitPairs,
    compare,
    logits_of,
    windows_of,
)
from fastspan.export.verification.pytorch_reference import torch_logits
from fastspan.export.verification.questions import encode
from fastspan.kernels import unavailable_reason as why_no_kernels
from fastspan.machine.cpu import cpu_features, usable_cores
from fastspan.runtime.kernel_session import KernelSession
from fastspan.runtime.session import OnnxSession, SessionSettings
from fastspan.text.encoder import EncodedPair, Encoder

__all__ = ["GraphCheck", "measure", "misses", "not_run_here", "parity_of", "verify_bundle"]

# Verification runs each window through the reference and every graph. About so many multiplications are
# affordable: small models are compared on many questions, large ones on fewer.
_WORK = 6.5e10
_MOST_TOKENS = 6_500  # however small the model: for all that passes, more questions would say no more
# Where a gate is met and too few questions were asked to be sure of it, this many are asked.
_QUESTIONS_OF_DOUBT = 120
# One answer of few can decide, so a variant that misses its gate is judged once more: on this many times the
# work, which is most or all questions for small models, and on this many questions at least. How many there
# are depends on the model alone, never on what was found.
_WORK_OF_APPEAL = 10
_QUESTIONS_OF_APPEAL = 120

Reference = Literal["pytorch", "fp32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCheck:
    """How one graph compares with its reference.

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
        """Whether it passes its gate; a graph that was not compared has missed none."""
        return self.comparison is None or EXPORT_GATES[self.variant].passed(self.comparison)

    @property
    def met(self) -> bool:
        """Whether what was measured meets its gate, be it on too few questions to be sure of it."""
        return self.comparison is None or EXPORT_GATES[self.variant].met(self.comparison)

    def to_dict(self) -> dict[str, Any]:
        """Return the check as built-in types, ready for JSON."""
        found = self.comparison
        return {
            "variant": self.variant,
            "graph": self.graph.file,
            "reference": self.reference,
            "runs_here": self.runs_here,
            "gate": str(EXPORT_GATES[self.variant]),
            "passed": self.passed if found is not None else None,
            "largest_difference": found.largest_difference if found is not None else None,
            "equal_answers": found.equal_answers if found is not None else None,
            "surely_equal": found.surely_equal if found is not None else None,
            "questions": found.questions if found is not None else 0,
            "windows": found.windows if found is not None else 0,
        }


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

    Each variant is judged by itself. Where its graphs meet their gate on the few questions that an export has
    time for, but they are too few to be sure of it, it is asked more. Where one of them misses its gate,
    still more are asked of the variant, and their verdict stands, whatever it is.

    Args:
        folder: Where the graphs and the tokenizer lie, laid out as in a bundle.
        manifest: What lies there.
        checkpoint: The checkpoint to run in PyTorch as the reference; None: the bundle's fp32 interchange
            graph is the reference.
        threads: Threads to compute with; None: the cores this process may use.
        progress: Told what happens.
        appeal: Whether to ask more questions where the few do not pass every gate; False where nothing
            hangs on it.

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
    bench = _Bench(folder, manifest, checkpoint, cores, progress)
    few = encode(encoder, min(tokens, _MOST_TOKENS), *lengths)
    checks = bench.checks(few)
    if not appeal or all(check.passed for check in checks):
        return checks
    missed = {check.variant for check in checks if not check.met}
    doubtful = {check.variant for check in checks if not check.passed} - missed
    if doubtful:
        more = encode(encoder, 0, *lengths, fewest=max(len(few), _QUESTIONS_OF_DOUBT))
        progress.stage(f"{len(few)} questions are too few to be sure of {_and(doubtful)}: asking {len(more)}")
        checks = _with(checks, bench.checks(more, doubtful))
        missed = {check.variant for check in checks if not check.passed}
    most = encode(encoder, tokens * _WORK_OF_APPEAL, *lengths, fewest=_QUESTIONS_OF_APPEAL)
    # More questions than each has answered, or their verdict would be the one that there is.
    missed = {name for name in missed if len(most) > _asked(checks, name)}
    if missed:
        progress.stage(f"{_and(missed)} missed the gate: judging on {len(most)} questions")
        checks = _with(checks, bench.checks(most, missed))
    return checks


def _with(checks: Sequence[GraphCheck], again: Sequence[GraphCheck]) -> list[GraphCheck]:
    """The checks, those of some graphs replaced."""
    newer = {check.graph.file: check for check in again}
    return [newer.get(check.graph.file, check) for check in checks]


def _asked(checks: Sequence[GraphCheck], variant: str) -> int:
    """How many questions a variant was compared on."""
    return max(c.comparison.questions for c in checks if c.variant == variant and c.comparison is not None)


def _and(variants: Collection[str]) -> str:
    return " and ".join(sorted(variants))


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
    gate = EXPORT_GATES[checks[0].variant]
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


class _Bench:
    """Compares a bundle's graphs with their reference, on more and more questions.

    Each set of questions begins with the one before it, whose windows are not run again.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, checkpoint: Path | None, cores: int, progress: Progress
    ) -> None:
        padding_id = json.loads((folder / "config.json").read_bytes()).get("pad_token_id") or 0
        self._folder = folder
        self._manifest = manifest
        self._checkpoint = checkpoint
        self._progress = progress
        self._settings = SessionSettings(
            provider="CPUExecutionProvider", threads=cores, spinning=True, padding_id=padding_id
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
                runs_here = _runs_here(graph)
                compared = runs_here and (pytorch or graph is not interchange)
                checks.append(
                    GraphCheck(
                        variant=name,
                        graph=graph,
                        reference="pytorch" if pytorch else "fp32",
                        runs_here=runs_here,
                        comparison=compare(pairs, reference, self._run(graph, pairs)) if compared else None,
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


def _runs_here(graph: Graph) -> bool:
    """Whether this machine's CPU runs the graph."""
    if graph.target == "cpu-kernels":
        return why_no_kernels() is None
    if graph.target == "cpu-dot-product":
        return cpu_features().int8_dot_product is not None
    return graph.target != "cuda"

"""Which graphs of a bundle are judged, on how many questions, and which verdict stands."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import Manifest
from fastspan.bundle.onnx_files import check_graphs
from fastspan.export.progress import Progress
from fastspan.export.verification.bench import Bench, Compare, runs_here
from fastspan.export.verification.comparison import compare
from fastspan.export.verification.graph_check import GraphCheck
from fastspan.export.verification.questions import FEWEST_QUESTIONS, encode
from fastspan.machine.cpu import usable_cores
from fastspan.text.encoder import Encoder

__all__ = ["THOROUGH", "Effort", "measure", "not_run_here", "verify_bundle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """On how many questions graphs are compared. What is found changes none of these.

    Verification runs each window through the reference and every graph, so small models are compared on many
    questions and large ones on fewer.

    Attributes:
        work: About so many multiplications are affordable.
        most_tokens: However small the model: for all that passes, more would say no more.
        fewest: Questions that are always asked.
        in_doubt: Questions that are asked where a gate is met, and too few were asked to be sure of it.
        appeal_work: One answer of few can decide, so a variant that misses its gate is judged once more: on
            this many times the work, which is most or all questions for small models.
        of_appeal: Questions that are always asked then.
    """

    work: float = 6.5e10
    most_tokens: int = 6_500
    fewest: int = FEWEST_QUESTIONS
    in_doubt: int = 120
    appeal_work: int = 10
    of_appeal: int = 120


THOROUGH = Effort()
"""What an export and ``fastspan verify`` take."""


def measure(
    folder: Path,
    manifest: Manifest,
    *,
    checkpoint: Path | None,
    threads: int | None,
    progress: Progress,
    appeal: bool = True,
    effort: Effort | None = None,
    compare: Compare = compare,
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
        effort: On how many questions; None: ``THOROUGH``.
        compare: Holds a graph's logits against its reference's.

    Returns:
        One check a graph, in the manifest's order.

    Raises:
        InferenceError: A graph does not load or run.
        CheckpointError: The checkpoint cannot be run in PyTorch.
    """
    model = manifest.model
    effort = effort or THOROUGH
    encoder = Encoder.from_folder(folder, segment_ids=model.segment_ids, max_positions=model.max_positions)
    lengths = manifest.max_length, manifest.overlap
    tokens = int(effort.work / max(1, 12 * model.layers * model.hidden_size**2))
    bench = Bench(
        folder,
        manifest,
        checkpoint=checkpoint,
        threads=threads or usable_cores(),
        progress=progress,
        compare=compare,
    )
    few = encode(encoder, min(tokens, effort.most_tokens), *lengths, fewest=effort.fewest)
    checks = bench.checks(few)
    if not appeal or all(check.passed for check in checks):
        return checks
    missed = {check.variant for check in checks if not check.met}
    doubtful = {check.variant for check in checks if not check.passed} - missed
    if doubtful:
        more = encode(encoder, 0, *lengths, fewest=max(len(few), effort.in_doubt))
        progress.stage(f"{len(few)} questions are too few to be sure of {_and(doubtful)}: asking {len(more)}")
        checks = _with(checks, bench.checks(more, doubtful))
        missed = {check.variant for check in checks if not check.passed}
    most = encode(encoder, tokens * effort.appeal_work, *lengths, fewest=effort.of_appeal)
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
        if not runs_here(graph)
    ]


def verify_bundle(
    bundle: Bundle, *, threads: int | None, progress: Progress, compare: Compare = compare
) -> list[GraphCheck]:
    """Check a bundle's files against their checksums, then its graphs against its fp32 interchange graph.

    Args:
        bundle: An opened bundle.
        threads: Threads to compute with; None: the cores this process may use.
        progress: Told what happens.
        compare: Holds a graph's logits against its reference's.

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
    return measure(
        bundle.folder, bundle.manifest, checkpoint=None, threads=threads, progress=progress, compare=compare
    )
